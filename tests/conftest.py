"""Shared by all tests: pytester, and what it takes to run sessions of this plugin in this process.

Most tests write a test file as a user would and run it with ``pytester`` in this process.  Such an
inner session forgets afterwards every module that it imported, and torch cannot be imported twice,
so :func:`libraries` has everything imported before.
"""

import gc
import importlib
import json
import pkgutil
import tempfile

import hypothesis
import pytest

import pytest_diffspeed
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.records.journal import Journal, as_line
from pytest_diffspeed.records.schema import fits, kinds, schema
from tests.clocks import ReplayingClock

pytest_plugins = ["pytester"]

# An example that takes long on a busy machine is no failure.
hypothesis.settings.register_profile("diffspeed", deadline=None)
hypothesis.settings.load_profile("diffspeed")

TINY = "random:sdxl-tiny"
"""A real pipeline with all its parts, random weights, and calls of a fraction of a second."""


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector):
    """Have diffusers imported before a test module does it at its top.

    Its models import torchao, which warns on the way in most versions: of names of its own that it
    deprecates, of escape sequences that Python 3.12 objects to.  Those are no errors of ours.
    """
    if isinstance(collector, pytest.Module) and "diffusers" in collector.path.read_text("utf-8"):
        with third_party():
            importlib.import_module("diffusers.models.autoencoders")


@pytest.fixture(scope="session")
def libraries():
    """Import all of this package, and what the tiny pipeline makes its libraries import."""
    import torch

    from pytest_diffspeed.pipelines.sources import parse_source

    with third_party():
        for module in pkgutil.walk_packages(pytest_diffspeed.__path__, "pytest_diffspeed."):
            importlib.import_module(module.name)
        pipeline = parse_source(TINY).build()
        pipeline("a fox", num_inference_steps=1, output_type="pt")
        # Dynamo imports parts of itself when it first compiles, and they register themselves.
        torch.compile(torch.nn.Linear(1, 1), backend="eager")(torch.ones(1, 1))
        torch.compiler.reset()
        # So does inductor.  Two copies of a class of it do not know each other.
        importlib.import_module("torch._inductor.compile_fx")
    # Pytest collects garbage several times when a session ends.  Without the objects of torch to
    # walk through, an inner session takes 0.1 s instead of 1 s.
    gc.collect()
    gc.freeze()


@pytest.fixture
def pytester(libraries, pytester, monkeypatch):
    """No test may forget to import the libraries first: torch cannot be imported twice.

    What is printed must not depend on where we run: under CI pytest does not shorten its summary,
    under GitHub Actions we annotate, and in a worker of xdist pytest-benchmark prints no table.
    """
    ci = ("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE")
    for name in (*ci, "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pytest_diffspeed.arms.session.Journal", CheckedJournal)
    return pytester


class CheckedJournal(Journal):
    """Every record of every inner session fits the schema, and each of its fields stands there."""

    def write(self, kind, **content):
        super().write(kind, **content)
        check_documented(json.loads(as_line({"kind": kind, **content})))


@pytest.fixture
def assert_documented():
    """Fails where a record does not fit, or has a field that the schema does not explain."""
    return check_documented


def check_documented(record):
    kind, definitions = record["kind"], schema()["definitions"]
    assert kind in kinds()
    assert fits(kind, record), record
    figures = set(definitions["figures"]["properties"])
    fields = {"schema", "kind", *definitions[kind]["properties"]}
    if kind == "ladder":  # has figures among its fields
        fields |= figures
    assert set(record) <= fields, kind
    said = {metric["name"] for metric in record.get("metrics", ())}  # with their units
    assert set(record.get("figures", ())) <= figures | said, record["gate"]


@pytest.fixture
def private_temp(tmp_path_factory, monkeypatch):
    """A temporary folder of this test alone, so that it waits for no other session's lock."""
    folder = tmp_path_factory.mktemp("temp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def verbose(pytester, monkeypatch):
    """Inner sessions print everything: whole messages, which stand in the record otherwise."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-v")


@pytest.fixture
def run_diffspeed(pytester, libraries, private_temp):
    """Run ``pytest --diffspeed`` in this process, on the CPU, with the tiny pipeline.

    Words of the caller come last, so they win.
    """

    def run(*words):
        return pytester.runpytest_inprocess(
            "--diffspeed",
            "--diffspeed-device=cpu",
            f"--diffspeed-pipeline={TINY}",
            "--diffspeed-steps=1",
            *words,
        )

    return run


@pytest.fixture
def constant_clock(libraries, monkeypatch):
    """Inner sessions time with a clock on which every call takes a second: ratios are exactly 1.

    What disturbs this machine meanwhile is nothing to that clock, and drops no pair.
    """
    monkeypatch.setattr("pytest_diffspeed.arms.session.clock_for", lambda device: ReplayingClock())
    monkeypatch.setattr("pytest_diffspeed.accelerators.registry.disturbances_of", lambda device: ())


@pytest.fixture
def fresh_dynamo():
    """No compilation of this test is there for the next one."""
    import torch

    yield
    torch.compiler.reset()


@pytest.fixture
def short_noise_floor(monkeypatch):
    """Six pairs of calls of the baseline instead of twenty, where calls are real and how many pairs
    there are is not the subject.
    """
    monkeypatch.setattr("pytest_diffspeed.timing.noise.PAIRS", 6)


@pytest.fixture
def copying_pipeline():
    """A pipeline that copies its scheduler in each call and steps both, as LTX-2 does."""
    with third_party():
        from tests.copying_pipeline import build

        return build()

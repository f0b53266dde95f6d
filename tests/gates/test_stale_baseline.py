"""Kept baseline images are used where nothing that decides them changed, and nowhere else."""

import dataclasses
import importlib
import os
import sys

import pytest
import torch

from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.arms.session import Session
from pytest_diffspeed.arms.session_options import Options
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.common.progress import Progress
from pytest_diffspeed.evidence import key as key_module
from pytest_diffspeed.gates import baseline_images
from pytest_diffspeed.pipelines.cases import image_cases


def session_in(rootdir, *, source="demo", steps=1, prompts=()):
    options = Options(
        device="cpu",
        pipeline=source,
        techniques=(),
        steps=steps,
        prompts=prompts,
        budget_s=None,
        inconclusive=None,
    )
    return Session(options, resolve_device("cpu"), rootdir, Progress(lambda text: None))


@pytest.fixture(scope="module")
def rootdir(libraries, tmp_path_factory):
    """Where an earlier session drew the demo's images, with one step."""
    folder = tmp_path_factory.mktemp("repository")
    assert not baseline_images.reference(session_in(folder), "demo").from_cache
    return folder


@pytest.fixture(scope="module")
def session(rootdir):
    return session_in(rootdir)


def kept(session, source="demo"):
    """What the cache holds for the session as it is now."""
    baseline = session.arms.baseline(source)
    cases = image_cases(baseline.call.defaults, baseline_images.LEAST_IMAGES)
    key = baseline_images._key(session, baseline, cases)
    return baseline_images.BaselineImageCache(session.workdir() / "baseline-images").load(key)


def test_the_next_session_draws_nothing(rootdir, monkeypatch):
    fresh = session_in(rootdir)
    monkeypatch.setattr(baseline_images, "draw", None)
    found = baseline_images.reference(fresh, "demo")
    assert found.from_cache
    assert found.drawn.data.shape == (8, 3, 64, 64)
    assert baseline_images.reference(fresh, "demo") is found  # once a session


def test_one_weight_that_differs(session):
    weight = session.arms.baseline("demo").pipeline.vae.decoder.conv_out.weight.data.view(-1)
    before = float(weight[1])
    weight[1] += 1e-6
    assert kept(session) is None
    weight[1] = before
    assert kept(session) is not None


@pytest.mark.parametrize(
    "changed", [{"steps": 2}, {"prompts": ("owl", "sunflower")}], ids=["steps", "prompts"]
)
def test_other_options(rootdir, changed):
    assert kept(session_in(rootdir, **changed)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"guidance": 2.0},
        {"height": 128},
        {"width": 128},
        {"arguments": {"guidance_rescale": 0.1}},
        {"arguments": {"guidance_rescale": lambda case: case.number / 10}},
    ],
    ids=["seed", "guidance", "height", "width", "value", "function"],
)
def test_another_call(session, monkeypatch, changed):
    call = session.arms.baseline("demo").call
    monkeypatch.setattr(call, "defaults", dataclasses.replace(call.defaults, **changed))
    assert kept(session) is None


def test_other_latents(session, monkeypatch):
    of = type(session.arms.baseline("demo").call).of

    def moved(self, case):
        call = of(self, case)
        call.latents = call.latents * 1.0001
        return call

    monkeypatch.setattr(type(session.arms.baseline("demo").call), "of", moved)
    assert kept(session) is None


@pytest.mark.parametrize("library", ["diffusers", "transformers", "pytest-diffspeed"])
def test_another_version_of_a_library(session, monkeypatch, library):
    real = key_module.installed_version
    monkeypatch.setattr(
        key_module, "installed_version", lambda name: "9.9" if name == library else real(name)
    )
    assert kept(session) is None


def test_another_torch(session, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "9.9")
        assert kept(session) is None
    monkeypatch.setattr(torch.version, "git_version", "0" * 40)
    assert kept(session) is None


def test_another_device_and_other_threads(session, monkeypatch):
    with monkeypatch.context() as patch:
        other = dataclasses.replace(session.device, name="NVIDIA H100 80GB HBM3")
        patch.setattr(session, "device", other)
        assert kept(session) is None
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert kept(session) is None
    monkeypatch.undo()
    assert kept(session) is not None


def test_other_processor_instructions(session, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another one")
    assert kept(session) is None


def test_an_edit_in_a_package_that_kept_its_version(rootdir, tmp_path, monkeypatch):
    """A factory's package outside of the repository, as after `pip install -e`."""
    package = tmp_path / "stale_pipelines"
    package.mkdir()
    (package / "__init__.py").write_text("from .made import factory\n")
    scheduler = package / "noise.py"
    scheduler.write_text("SCALE = 1.0\n")
    (package / "made.py").write_text(
        "def factory():\n"
        "    from pytest_diffspeed.pipelines.sources import parse_source\n"
        "    return parse_source('demo').build()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    source = "stale_pipelines:factory"
    session = session_in(rootdir, source=source)
    try:
        baseline = session.arms.baseline(source)
        cases = image_cases(baseline.call.defaults, baseline_images.LEAST_IMAGES)
        before = baseline_images._key(session, baseline, cases).digest
        assert baseline_images._key(session, baseline, cases).digest == before
        scheduler.write_text("SCALE = 2.0\n")  # as long as before
        os.utime(scheduler, (1e9, 1e9))
        assert baseline_images._key(session, baseline, cases).digest != before
    finally:
        for name in [name for name in sys.modules if name.startswith("stale_pipelines")]:
            del sys.modules[name]


def test_images_of_different_sizes_are_refused(session):
    room = baseline_images._put(None, torch.zeros(3, 8, 8), 0, 2)
    with pytest.raises(MeasurementError, match="different sizes"):
        baseline_images._put(room, torch.zeros(3, 8, 9), 1, 2)

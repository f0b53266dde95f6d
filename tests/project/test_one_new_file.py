"""Adding adds a file and edits none: a copy of the package with one new file for each kind.

A process of its own runs one session on the copy, with what the new files add, and against a base.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_diffspeed
from tests.journals import records_in

CLI = "import sys; from pytest_diffspeed.commands.cli import main; sys.exit(main(sys.argv[1:]))"
PACKAGE = Path(pytest_diffspeed.__file__).parent

GATE = '''
"""``max_kernels``: at most so many operations in one call."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from ...arms.counts import Counts
from ...arms.probes import Probe
from ...records.verdict import Axis, EvidenceKind, Metric, VerdictKind
from ..against_base.counts import BaseProbe, CountingGate
from ..marker import GateMarker
from ..marker_values import as_count, as_device, as_optional_stack


@dataclass(frozen=True)
class MaxKernels(GateMarker):
    signature: ClassVar[str] = "max_kernels(count, stack=None, device=None): few operations"
    axis: ClassVar[Axis] = Axis.STRUCTURE
    count: int
    stack: object
    device: object

    @classmethod
    def from_arguments(cls, count, stack=None, device=None):
        return cls(as_count("count", count), as_optional_stack(stack), as_device(device))


class MaxKernelsGate(CountingGate):
    markers = (MaxKernels,)

    def check(self, marker, context):
        kernels = kernels_of(context.candidate)
        return context.publish(
            context.result(
                marker,
                VerdictKind.FAIL if kernels > marker.count else VerdictKind.PASS,
                f"{kernels} kernels, allowed: {marker.count}",
                evidence=EvidenceKind.COUNTED,
                figures={"found": f"{kernels} kernels", "kernels": kernels},
                metrics=[Metric("kernels", kernels, "kernels", series="kernels")],
            )
        )

    def base_probe(self, marker, context):
        return BaseProbe(Probe("kernels", count_kernels), context.candidate)


def kernels_of(arm):
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = Counter()

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen["kernels"] += 1
            return func(*args, **(kwargs or {}))

    with arm.running(), Counting():
        arm.call(arm.pipeline, steps=1)
    return seen["kernels"]


def count_kernels(arm, root):
    return Counts({"call": {"kernels": kernels_of(arm)}})


GATES = (MaxKernelsGate(),)
'''
TECHNIQUE = '''
"""Attention in slices."""

from ..technique import Family, Proof, Technique


class Sliced(Technique):
    name = "sliced_attention"
    family = Family.LAYOUT
    summary = "the VAE decodes image by image"
    changes = frozenset({"vae"})

    def apply(self, pipeline):
        pipeline.vae.enable_slicing()

    def prove(self, pipeline, seen):
        assert pipeline.vae.use_slicing
        return Proof(self.name, "the VAE is sliced")


TECHNIQUES = (Sliced(),)
'''
REPORT = '''
"""One line a gate."""

from pathlib import Path

HELP = "write a line a gate to PATH"
MARK = "gates:"


def write(target, finished):
    gates = [gate.result for gate in finished.session.latest]
    lines = [f"{r.verdict} {r.claim} {r.stack}" for r in gates]
    text = "\\n".join(["gates:", *lines])
    Path(target).write_text(text, encoding="utf-8")
    return f"lines: {target}"
'''
EXPORT = '''
"""``name=value`` lines."""

from .export_format import Format


def render(exported):
    return {"": "".join(f"{f.gate}: {f.name}={f.value:g} {f.unit}\\n" for f in exported.figures)}


FORMATS = (Format("lines", "one line a figure", render),)
'''
NEW_FILES = {
    "gates/catalog/kernels.py": GATE,
    "techniques/catalog/sliced.py": TECHNIQUE,
    "reports/formats/lines.py": REPORT,
    "reports/exports/lines.py": EXPORT,
}
SOURCE = """
def tiny():
    from pytest_diffspeed.pipelines.sources import parse_source
    return parse_source("random:sdxl-tiny").build()
"""
TESTS = """
import pytest

@pytest.mark.diffspeed("sliced_attention", pipeline="src:tiny")
@pytest.mark.max_kernels(100_000)
def test_few(optimized_pipeline): ...

@pytest.mark.diffspeed("sliced_attention", pipeline="src:tiny")
@pytest.mark.max_kernels(1)
def test_many(optimized_pipeline): ...
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository with a copy of the package beside it, and four more files in the copy."""
    place = tmp_path_factory.mktemp("one_new_file")
    copy = place / "copy" / "pytest_diffspeed"
    shutil.copytree(PACKAGE, copy, copy_function=_link, ignore=shutil.ignore_patterns("*.pyc"))
    for name, text in NEW_FILES.items():
        assert not (copy / name).exists()
        (copy / name).write_text(text, encoding="utf-8")
    folder = place / "project"
    folder.mkdir()
    for name, text in (("src.py", SOURCE), ("test_it.py", TESTS), (".gitignore", ".diffspeed\n")):
        (folder / name).write_text(text, encoding="utf-8")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    (folder / "src.py").write_text(f"{SOURCE}# edited\n", encoding="utf-8")
    return folder


def _link(source, target):
    try:
        os.link(source, target)  # not a symbolic one: a file's own path has to be in the copy
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def run(project):
    """Run Python on the copy; what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(project.parent / "copy"), "COLUMNS": "200"}
    for name in [name for name in environment if name.startswith(("PYTEST_", "GITHUB_"))]:
        del environment[name]

    def run(*words):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def session(run):
    """The one session that all tests below look at."""
    reports = [f"--diffspeed-{name}=out.{name}" for name in ("json", "html", "markdown", "lines")]
    words = ["--diffspeed", "--diffspeed-device=cpu", "--diffspeed-steps=1"]
    return run("-m", "pytest", *words, "--diffspeed-base=HEAD", *reports)


def test_a_new_gates_marker_is_registered(run):
    listed = run("-m", "pytest", "--markers")
    assert "@pytest.mark.max_kernels(count, stack=None, device=None): few operations" in listed


@pytest.mark.slow
def test_a_new_gate_passes_fails_and_is_compared_with_a_base(session, project):
    found = {
        (gate["test"].partition("::")[2], gate["claim"]): gate["verdict"]
        for gate in records_in(project / "out.json", "gate")
    }
    assert found == {
        ("test_few[sliced_attention]", "max_kernels"): "PASS",
        ("test_few[sliced_attention]", "max_kernels against base"): "PASS",
        ("test_many[sliced_attention]", "max_kernels"): "FAIL",
        ("test_many[sliced_attention]", "max_kernels against base"): "PASS",
    }, session
    assert "max_kernels    test_it.py::test_many[sliced_attention]" in session
    assert "green: 1 test, 2 gates PASS" in session


@pytest.mark.slow
def test_a_new_gate_has_its_place_in_the_page(session, project):
    page = (project / "out.html").read_text(encoding="utf-8")
    assert '<section id="structure">' in page
    assert '<section id="other">' not in page
    assert " kernels" in page
    assert "kernels" in (project / "out.markdown").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_history_follows_a_new_gate(session, run):
    assert "kernels of max_kernels; lower is better" in run(
        "-c", CLI, "history", "show", "test_few"
    ), session


@pytest.mark.slow
def test_a_new_export_carries_a_new_gate(session, run):
    exported = run("-c", CLI, "export", "out.json", "--format=lines")
    assert "test_it.py::test_few[sliced_attention] (sliced_attention): max_kernels: kernels=" in (
        exported
    ), session


@pytest.mark.slow
def test_a_new_report_is_written_by_a_session_and_from_records(session, project, run):
    lines = (project / "out.lines").read_text(encoding="utf-8").splitlines()
    assert "FAIL max_kernels sliced_attention" in lines
    assert "lines: out.lines" in " ".join(session.split())  # it may stand in two lines
    assert (
        run("-c", CLI, "report", "out.json", "--lines=again.lines")
        == "lines: again.lines\nred: 1 gate FAIL\n"
    )
    assert (project / "again.lines").read_text(encoding="utf-8").splitlines() == lines

"""A pull request against its base, in a scratch repository: each change gets the verdict it deserves.

The pipeline is a real one with random weights.  Workers are real processes in a real git worktree.
"""

import subprocess
import tempfile
from pathlib import Path

import pytest

from pytest_diffspeed.base.checkout import PREFIX
from pytest_diffspeed.records.reader import read_journal

PIPELINE = '''
"""A pipeline whose speed, structure, syncs and images a commit can change."""
import time

import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel
from pytest_diffspeed.pipelines import random_weights


class Scheduler(EulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, **rest):
        time.sleep(0.1)
        return super().step(model_output, timestep, sample, **rest)


class Denoiser(UNet2DConditionModel):
    def forward(self, sample, *rest, **more):
        return super().forward(sample, *rest, **more)


def make():
    pipe = random_weights.build("sdxl-tiny")
    pipe.unet.__class__ = Denoiser
    pipe.scheduler = Scheduler.from_config(pipe.scheduler.config)
    return pipe


make.call_defaults = {"steps": 1}
'''
TESTS = """
import pytest

pytestmark = pytest.mark.diffspeed("channels_last", pipeline="fast_pipeline:make")

@pytest.mark.max_slowdown(50, over="base")
def test_speed(optimized_pipeline): ...

@pytest.mark.no_graph_breaks(max_breaks=9)
@pytest.mark.no_gpu_syncs(per_step=99, first_step=99)
@pytest.mark.image_similarity("exact")
def test_counts(optimized_pipeline): ...
"""

CHANGES = {
    "slower": ("time.sleep(0.1)", "time.sleep(0.4)"),
    "break": ("    return super().forward(", "    print('!')\n        return super().forward("),
    "sync": (
        "        time.sleep(0.1)\n",
        "        time.sleep(0.1)\n        float(sample.mean())\n",
    ),
    "picture": ("super().step(model_output", "super().step(-model_output"),
}
"""What a pull request edits."""


def git(folder, *words):
    subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(pytester, monkeypatch):
    """The base commit, checked out, and nothing else."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "somebody")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "somebody@example.org")
    pytester.makepyfile(fast_pipeline=PIPELINE, test_fast=TESTS)
    pytester.path.joinpath("README.md").write_text("Fast.\n")
    pytester.path.joinpath(".gitignore").write_text("__pycache__/\n*.jsonl\n")
    git(pytester.path, "init", "--quiet", "--initial-branch=main")
    git(pytester.path, "add", "--all")
    git(pytester.path, "commit", "--quiet", "--message=The base")
    git(pytester.path, "switch", "--quiet", "--create", "change")
    pytester.syspathinsert()
    return pytester.path


@pytest.fixture
def gated(repository, run_diffspeed, pytester):
    """Runs the tests of the repository against ``main`` and gives the gates against the base."""

    def run(*words):
        result = run_diffspeed(
            "--diffspeed-base=main",
            "--diffspeed-instances=1",
            "--diffspeed-json=out.jsonl",
            *words,
        )
        told = read_journal(pytester.path / "out.jsonl")
        return result, {
            gate.result.claim: gate.result for gate in told.gates if "base" in gate.result.claim
        }

    yield run
    listed = subprocess.run(
        ["git", "worktree", "list"], cwd=repository, check=True, capture_output=True, text=True
    )
    assert len(listed.stdout.splitlines()) == 1, "a worktree was left behind"
    assert not [p for p in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if p.is_dir()]


def edit(repository, change):
    before, after = CHANGES[change]
    path = repository / "fast_pipeline.py"
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    git(repository, "commit", "--all", "--quiet", f"--message={change}")


@pytest.mark.slow
def test_docs_only_passes(repository, gated):
    (repository / "README.md").write_text("Fast, and explained.\n")
    git(repository, "commit", "--all", "--quiet", "--message=Explain")
    result, gates = gated()
    result.assert_outcomes(passed=2)
    assert {claim: str(gate.verdict) for claim, gate in gates.items()} == {
        "max_slowdown over base per call": "PASS",
        "no_graph_breaks against base": "PASS",
        "no_gpu_syncs in scheduler.step against base": "PASS",
        "image_similarity against base": "PASS",
    }


@pytest.mark.slow
def test_slower_fails_its_test(repository, gated):
    edit(repository, "slower")
    result, gates = gated("test_fast.py::test_speed")
    result.assert_outcomes(failed=1)
    (gate,) = gates.values()
    assert str(gate.verdict) == "FAIL"
    assert gate.figures["base"]["subject"] == "The base"
    assert gate.reason.startswith("against main (")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "claim", "said"),
    [
        (
            "break",
            "no_graph_breaks against base",
            "new here: fast_pipeline.py:19 in forward: *print*",
        ),
        (
            "sync",
            "no_gpu_syncs in scheduler.step against base",
            "new here: fast_pipeline.py:13 in step: value read *",
        ),
        ("picture", "image_similarity against base", "against main (*): image * PSNR*"),
    ],
)
def test_other_changes_fail_their_gate_and_no_other(repository, gated, change, claim, said):
    edit(repository, change)
    result, gates = gated("test_fast.py::test_counts")
    verdicts = {claim: str(gate.verdict) for claim, gate in gates.items()}
    result.assert_outcomes(failed=1)
    assert verdicts.pop(claim) == "FAIL"
    assert set(verdicts.values()) == {"PASS"}
    result.stdout.fnmatch_lines([f"*{said}"])

"""A pull request against its base, in a scratch repository: each gets the verdict it deserves.

The pipeline is a real one with random weights.  Workers are real processes in a real git worktree.
"""

import pytest

from pytest_diffspeed.arms.worker.process import WorkerProcess
from pytest_diffspeed.history.speed_index import indexes_of
from pytest_diffspeed.history.url import DEFAULT

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

@pytest.mark.no_graph_breaks(components=["denoiser"], max_breaks=9)
def test_structure(optimized_pipeline): ...

@pytest.mark.no_gpu_syncs(per_step=99, first_step=99)
@pytest.mark.image_similarity("exact")
def test_output(optimized_pipeline): ...
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
CLAIMS = {
    "break": "no_graph_breaks against base",
    "sync": "no_gpu_syncs in scheduler.step against base",
    "picture": "image_similarity against base",
}
"""What fails."""
PLACES = {
    "break": "fast_pipeline.py,line=18",  # the sync that comes with it is a line before
    "sync": "fast_pipeline.py,line=12",
    "picture": "test_fast.py,line=11",  # no line of code is known for it: its test
}
"""Where GitHub shows it."""


@pytest.fixture
def project(repository, pytester):
    """The base commit, and a branch on which nothing is changed yet."""
    pytester.makepyfile(fast_pipeline=PIPELINE, test_fast=TESTS)
    (repository.path / "README.md").write_text("Fast.\n")
    repository.commit("The base")
    repository.git("switch", "--quiet", "--create", "change")
    return repository


def edit(project, change):
    project.replace("fast_pipeline.py", *CHANGES[change])
    project.commit(change)


PATCHED = """
import fast_pipeline
from diffusers import EulerDiscreteScheduler

def step(self, model_output, timestep, sample, **rest):
    float(sample.mean())
    return EulerDiscreteScheduler.step(self, model_output, timestep, sample, **rest)

fast_pipeline.Scheduler.step = step
"""
"""What a conftest patches is no part of either tree: a sync in this process alone."""


@pytest.fixture
def started(monkeypatch):
    """The worker processes that are started, by the names of their arms."""
    names = []

    def start(self, name, place=None):
        names.append(name)
        return initialize(self, name, place)

    initialize = WorkerProcess.__init__
    monkeypatch.setattr(WorkerProcess, "__init__", start)
    return names


@pytest.mark.slow
def test_docs_only_passes(project, pytester, against_main, started):
    (project.path / "README.md").write_text("Fast, and explained.\n")
    pytester.makeconftest(PATCHED)
    project.commit("Explain")
    result, gates = against_main()
    result.assert_outcomes(passed=3)
    assert started == ["base", "head"]  # for three tests and four gates
    assert {claim: str(gate.verdict) for claim, gate in gates.items()} == {
        "max_slowdown over base per call": "PASS",
        "no_graph_breaks against base": "PASS",
        "no_gpu_syncs in scheduler.step against base": "PASS",
        "image_similarity against base": "PASS",
    }


@pytest.mark.slow
def test_slower_fails_its_test(project, against_main):
    """By single steps of both trees, each in the calls of its own workers."""
    project.replace("test_fast.py", 'over="base")', 'over="base", unit="step")')
    edit(project, "slower")
    result, gates = against_main("test_fast.py::test_speed", "--diffspeed-steps=2")
    result.assert_outcomes(failed=1)
    (gate,) = gates.values()
    assert gate.figures["pairs_of"] == "steps of calls in lockstep"
    assert str(gate.verdict) == "FAIL"
    assert gate.figures["against_base"]["subject"] == "The base"
    assert gate.reason.startswith("against main (")
    # And the history's speed index says by how much, and with which commit.
    (index,) = indexes_of(DEFAULT, project.path)
    assert [point.subject for point in index.points] == ["The base", "slower"]
    assert [point.commit for point in index.points] == [
        project.git("rev-parse", name).strip() for name in ("main", "change")
    ]
    (drop,) = index.drops
    assert drop.ratio < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tests", "said"),
    [
        # One session for two changes: starting workers is what takes the time.
        (
            ["test_structure", "test_output"],
            {
                "break": "new here: fast_pipeline.py:18 in forward: *print*",
                "sync": "new here: fast_pipeline.py:12 in step: value_read *",
            },
        ),
        (["test_output"], {"picture": "FAIL image_similarity against base: 8 images: PSNR *"}),
    ],
    ids=["break and sync", "picture"],
)
@pytest.mark.usefixtures("verbose")
def test_other_changes_fail_their_gate_and_no_other(
    project, against_main, monkeypatch, tests, said
):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for change in said:
        project.replace("fast_pipeline.py", *CHANGES[change])
    project.commit(" and ".join(said))
    result, gates = against_main(*(f"test_fast.py::{test}" for test in tests))
    result.assert_outcomes(failed=len(tests))
    verdicts = {claim: str(gate.verdict) for claim, gate in gates.items()}
    assert {verdicts.pop(CLAIMS[change]) for change in said} == {"FAIL"}
    assert set(verdicts.values()) == {"PASS"}
    result.stdout.fnmatch_lines([f"*{line}" for line in said.values()])
    annotations = [line for line in result.outlines if line.startswith("::error")]
    assert len(annotations) == len(said)
    for change in said:
        begins = f"::error file={PLACES[change]},title=FAIL {CLAIMS[change]} ["
        (annotation,) = [line for line in annotations if line.startswith(begins)]
        assert any(f"::test_fast.py::{test}[channels_last]" in annotation for test in tests)

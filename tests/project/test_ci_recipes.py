"""The recipes in examples/ci: each step that is a command is run, in a scratch repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_diffspeed.records.reader import read_journal

EXAMPLES = Path(__file__).parents[2] / "examples/ci"
RECIPES = ("gpu_less.yml", "gpu.yml")
ACTIONS = {"actions/cache", "actions/checkout", "actions/setup-python", "actions/upload-artifact"}
"""What GitHub runs, and this test does not."""
EXPRESSIONS = {
    "github.event.pull_request.base.sha || github.event.before": "main",
    "vars.DIFFSPEED_COMPILE_CACHE || '.compile-cache'": ".compile-cache",
    "github.event_name == 'push' && vars.DIFFSPEED_STORE || 'sqlite:///history.sqlite'": (
        "sqlite:///history.sqlite"
    ),
    "github.event_name == 'push' && secrets.DIFFSPEED_STORE_PASSWORD || ''": "",
}
"""What GitHub would put in, for the pull request of this test."""


def recipe(name):
    # YAML reads the key `on` as true.
    read = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    (job,) = read["jobs"].values()
    return job


def filled(text):
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: EXPRESSIONS[found[1]], text)


@pytest.fixture
def project(tmp_path):
    """The example's project under git: ``main`` is the base of the branch that is checked out."""
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES / "project", folder, ignore=shutil.ignore_patterns("__pycache__"))

    def git(*words):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)

    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "somebody")
    git("config", "user.email", "somebody@example.org")
    git("add", "--all")
    git("commit", "--quiet", "--message=The base")
    git("switch", "--quiet", "--create", "change")
    (folder / "README.md").write_text("What this project is for.\n")
    git("add", "--all")
    git("commit", "--quiet", "--message=Explain")
    return folder


@pytest.fixture
def run_steps(project, tmp_path):
    """Runs the commands of a job as GitHub does, and gives each one's status and output."""
    summary = tmp_path / "summary.md"

    def run(job):
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            **{name: filled(str(value)) for name, value in job["env"].items()},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(summary),
            "PIP_NO_INDEX": "1",  # all is installed; nothing may be fetched
            "PYTEST_ADDOPTS": "--diffspeed-instances=1",  # four of each arm take a minute more
            "TMPDIR": str(tmp_path),
        }
        done = {}
        failed = False
        for step in job["steps"]:
            if "run" not in step or (failed and step.get("if") != "always()"):
                continue
            done[step["name"]] = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=project,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            failed |= done[step["name"]].returncode != 0
        return done, summary

    return run


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_not_run_here_is_known(name):
    job = recipe(name)
    used = {step["uses"].partition("@")[0] for step in job["steps"] if "uses" in step}
    assert used <= ACTIONS
    checkout = next(s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["fetch-depth"] == 0, "a shallow clone has no base"
    for step in job["steps"]:
        assert ("run" in step) != ("uses" in step)
        assert "${{" not in step.get("run", ""), "expressions go through env: no shell injection"


def test_a_runner_that_outlives_its_jobs_runs_no_pull_request_of_a_fork():
    job = recipe("gpu.yml")
    same = "github.event.pull_request.head.repo.full_name == github.repository"
    assert job["if"] == f"github.event_name == 'push' || {same}"
    assert job["environment"] == "gpu"  # where reviewers can be required
    assert "secrets." not in str(recipe("gpu_less.yml"))


@pytest.mark.slow
def test_every_step_without_a_gpu(run_steps, project):
    job = recipe("gpu_less.yml")
    done, summary = run_steps(job)
    told = {name: step.stdout + step.stderr for name, step in done.items()}
    assert {name: step.returncode for name, step in done.items()} == dict.fromkeys(done, 0), told
    gates = {
        g.result.claim: str(g.result.verdict)
        for g in read_journal(project / "diffspeed.jsonl").gates
    }
    counted = {claim: verdict for claim, verdict in gates.items() if "slowdown" not in claim}
    assert len(counted) == 6
    assert set(counted.values()) == {"PASS"}
    assert gates["max_slowdown over base per call"] in ("PASS", "INCONCLUSIVE")  # a clock decides
    assert summary.read_text(encoding="utf-8").startswith("## diffspeed: ")
    assert "test_fast" in told["Show the history"]
    (cache,) = (s["with"] for s in job["steps"] if s.get("uses", "").startswith("actions/cache@"))
    for path in cache["path"].split():
        assert (project / path).is_dir(), f"{path} would be cached, and is not there"
    (kept,) = (s["with"] for s in job["steps"] if "upload-artifact" in s.get("uses", ""))
    for pattern in kept["path"].split():
        assert list(project.glob(pattern)), f"{pattern} would be kept, and is not there"


@pytest.mark.slow
def test_every_step_with_a_gpu_says_that_there_is_none(run_steps):
    import torch

    done, _ = run_steps(recipe("gpu.yml"))
    gate = done["Gate against the base"]
    if not torch.cuda.is_available():
        assert gate.returncode == pytest.ExitCode.USAGE_ERROR
        assert "--diffspeed-device: 'cuda' was asked for, but torch" in gate.stderr
    assert done["Install"].returncode == 0
    assert set(done) == {"Install", "Gate against the base", "Show the history"}

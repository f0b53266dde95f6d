"""The recipes for GPU cost in examples/ci: their commands are there and their options are known.

A count takes a minute, so pytest only collects here.  What the gate says of a change is tested in
``tests/arms/base_commit/test_gpu_cost_against_base.py``.
"""

import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.gates.gpu_cost_figures import FOLDER
from tests.project.test_ci_recipes import ACTIONS, EXAMPLES, recipe

PROJECT = EXAMPLES / "gpu_cost_project"


def github():
    job = recipe("gpu_cost.yml")
    return [step["run"] for step in job["steps"] if "run" in step], str(job["env"]["DIFFSPEED_CI"])


def gitlab_job():
    (job,) = yaml.safe_load((EXAMPLES / "gpu_cost.gitlab-ci.yml").read_text("utf-8")).values()
    return job


def gitlab():
    job = gitlab_job()
    return [*job["script"], *job["after_script"]], job["variables"]["DIFFSPEED_CI"]


def words_of(commands, start):
    """The words of the one command that begins so, with ``main`` as the base."""
    (found,) = [command for command in commands if command.startswith(start)]
    words = shlex.split(found.replace("\\\n", " "))
    return [re.sub(r"^(--diffspeed-base)=\$.*", r"\1=main", word) for word in words]


@pytest.fixture
def project(tmp_path):
    """The example's project under git: ``main`` is the base of the branch that is checked out."""
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
    for words in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        ("commit", "--quiet", "--message=The base"),
        ("switch", "--quiet", "--create", "change"),
        ("commit", "--quiet", "--allow-empty", "--message=A change"),
    ):
        subprocess.run(["git", *who, *words], cwd=folder, check=True)
    return folder


def test_both_ask_for_the_same():
    (ours, in_ci), (theirs, also) = github(), gitlab()
    assert in_ci == also == "1"
    for start in ("python -m pytest", "python -m pip", "diffspeed"):
        first, second = (
            [word for word in words_of(told, start) if "markdown" not in word]
            for told in (ours, theirs)
        )
        assert first == second


def test_the_gate_is_collected_with_options_that_are_known(project, monkeypatch, capsys):
    told, _ = gitlab()
    python, *words = words_of(told, "python -m pytest")
    assert python == "python"
    assert {"--diffspeed", "--diffspeed-strict", "--diffspeed-base=main"} <= set(words)
    done = subprocess.run(
        [sys.executable, *words, "--collect-only", "-q", "-n0"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/test_gpu_cost.py::test_step[bf16+channels_last]" in done.stdout
    _, *words = words_of(told, "diffspeed history")
    monkeypatch.chdir(project)
    assert main(words) == 2  # nothing was stored here, which is not to say that it cannot be asked
    assert "history" in capsys.readouterr().err
    assert "python -m pip install --requirement requirements.txt" in told


def test_versions_are_pinned_since_counts_of_two_are_not_compared():
    lines = (PROJECT / "requirements.txt").read_text("utf-8").splitlines()
    names = {line.partition("==")[0] for line in lines if "==" in line}
    assert {"torch", "diffusers"} <= names


def test_what_github_runs_is_known_and_keeps_every_difference():
    job = recipe("gpu_cost.yml")
    steps = {
        step["uses"].partition("@")[0]: step["with"] for step in job["steps"] if "uses" in step
    }
    assert set(steps) <= ACTIONS
    assert steps["actions/checkout"]["fetch-depth"] == 0, "a shallow clone has no base"
    assert steps["actions/setup-python"]["cache"] == "pip"
    assert (PROJECT / steps["actions/setup-python"]["cache-dependency-path"]).is_file()
    kept = steps["actions/upload-artifact"]
    assert f".diffspeed/{FOLDER}/*.txt" in kept["path"].split()
    assert kept["include-hidden-files"] is True  # or the folder with a dot is left out
    assert "secrets." not in str(job)
    assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


def test_what_gitlab_keeps_lies_in_the_projects_folder():
    job = gitlab_job()
    assert job["variables"]["GIT_DEPTH"] == "0", "a shallow clone has no base"
    assert job["variables"]["PIP_CACHE_DIR"] == "$CI_PROJECT_DIR/.cache/pip"
    assert job["cache"][0]["paths"] == [".cache/pip"]
    assert job["cache"][0]["key"]["files"] == ["requirements.txt"]
    assert f".diffspeed/{FOLDER}/" in job["artifacts"]["paths"]
    assert job["artifacts"]["when"] == "always"

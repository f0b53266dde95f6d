"""Scratch repositories with a base commit, on a branch that may change it."""

import subprocess
import tempfile
from pathlib import Path

import pytest

from pytest_diffspeed.arms.base_commit.checkout import PREFIX
from pytest_diffspeed.records.reader import read_journal


class Repository:
    """A project under git: ``main`` is the base, and the branch ``change`` is checked out."""

    def __init__(self, path):
        self.path = path
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "somebody")
        self.git("config", "user.email", "somebody@example.org")

    def git(self, *words):
        done = subprocess.run(
            ["git", *words], cwd=self.path, check=True, capture_output=True, text=True
        )
        return done.stdout

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", f"--message={message}")

    def replace(self, name, before, after):
        text = (self.path / name).read_text()
        assert text.count(before) == 1
        (self.path / name).write_text(text.replace(before, after))

    def require_nothing_left(self):
        """No worktree, and no folder of one, where no other process puts any."""
        assert len(self.git("worktree", "list").splitlines()) == 1
        assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
        assert not list(Path(tempfile.gettempdir()).glob("diffspeed-worker-*"))


@pytest.fixture
def repository(pytester, private_temp):
    pytester.path.joinpath(".gitignore").write_text("__pycache__/\n*.jsonl\n")
    pytester.syspathinsert()
    made = Repository(pytester.path)
    yield made
    made.require_nothing_left()


@pytest.fixture
def against_main(repository, run_diffspeed):
    """Runs tests of the repository against ``main``; gives the result and the gates by claim."""

    def run(*words):
        result = run_diffspeed(
            "--diffspeed-base=main",
            "--diffspeed-instances=1",
            "--diffspeed-json=out.jsonl",
            *words,
        )
        told = read_journal(repository.path / "out.jsonl")
        gates = {gate.result.claim: gate.result for gate in told.gates}
        return result, {claim: gate for claim, gate in gates.items() if "base" in claim}

    return run

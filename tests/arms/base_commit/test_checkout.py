"""Checking a base out: what git has, what it lacks, and what is left behind."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pytest_diffspeed.arms.base_commit.checkout import (
    PREFIX,
    Checkout,
    find_commit,
    remove_abandoned,
)
from pytest_diffspeed.common.errors import UsageError


def git(folder, *words):
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", f"--message={name}: {text}")
    return git(folder, "rev-parse", "HEAD")


def new_repository(folder):
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "somebody")
    git(folder, "config", "user.email", "somebody@example.org")
    return folder


@pytest.fixture
def repository(tmp_path, private_temp):
    made = new_repository(tmp_path / "repository")
    commit(made, "kernel.py", "SPEED = 1")
    git(made, "tag", "base")
    commit(made, "kernel.py", "SPEED = 2")
    return made


@pytest.fixture
def checked_out():
    """Opens checkouts and closes them at the end."""
    opened = []

    def open_(rootdir, rev):
        checkout = Checkout(find_commit(rootdir, rev))
        opened.append(checkout)
        checkout.open()
        return checkout

    yield open_
    for checkout in opened:
        checkout.close()


def worktrees(repository):
    return len(git(repository, "worktree", "list").splitlines())


def test_a_dirty_tree_stays_as_it_is(repository, checked_out):
    (repository / "kernel.py").write_text("SPEED = 3")
    (repository / "new.py").write_text("SPEED = 4")
    checkout = checked_out(repository, "base")
    assert (checkout.tree / "kernel.py").read_text() == "SPEED = 1"
    assert not (checkout.tree / "new.py").exists()
    assert (repository / "kernel.py").read_text() == "SPEED = 3"
    assert git(repository, "status", "--porcelain") == "M kernel.py\n?? new.py"
    assert worktrees(repository) == 2
    checkout.close()
    checkout.close()
    assert worktrees(repository) == 1
    assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


@pytest.mark.parametrize("rev", ["base", "HEAD~1", "main~1"])
def test_whatever_git_understands(repository, rev):
    found = find_commit(repository, rev)
    assert (found.rev, found.name) == (rev, git(repository, "rev-parse", "base"))
    assert found.subject == "kernel.py: SPEED = 1"


def test_a_project_below_the_top(repository, checked_out):
    commit(repository, "projects/one/kernel.py", "SPEED = 1")
    checkout = checked_out(repository / "projects/one", "HEAD")
    assert (checkout.rootdir / "kernel.py").read_text() == "SPEED = 1"
    checkout = checked_out(repository / "projects/one", "base")  # which has no such folder yet
    assert checkout.rootdir.is_dir()


def test_hooks_do_not_run(repository, checked_out):
    hook = repository / ".git/hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {repository}/it-ran\n")
    hook.chmod(0o755)
    checked_out(repository, "base")
    assert not (repository / "it-ran").exists()


@pytest.mark.parametrize("rev", ["mian", "--help", "0" * 40, "base:kernel.py"])
def test_an_unknown_revision_is_refused_with_the_branches_there_are(repository, rev):
    with pytest.raises(UsageError) as error:
        find_commit(repository, rev)
    assert str(error.value) == (
        f"{rev!r} is no commit that the repository in {repository} has; it has the branches main"
    )


def test_a_detached_head_is_no_branch(repository):
    git(repository, "switch", "--quiet", "--detach", "HEAD")  # as in CI
    with pytest.raises(UsageError, match=r"; it has the branches main$"):
        find_commit(repository, "mian")


def test_a_shallow_clone_says_how_to_get_the_commit(repository, tmp_path):
    base = git(repository, "rev-parse", "base")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    with pytest.raises(UsageError, match=r"shallow clone; fetch it with `git fetch --depth=1 "):
        find_commit(tmp_path / "shallow", base)
    git(tmp_path / "shallow", "fetch", "--quiet", "--depth=1", "origin", base)
    assert find_commit(tmp_path / "shallow", base).name == base


def test_without_a_repository(tmp_path):
    with pytest.raises(UsageError, match="is in no git repository that can be read"):
        find_commit(tmp_path, "main")


@pytest.fixture
def with_submodule(repository, tmp_path):
    """``base`` and ``main`` pin different commits of a submodule."""
    library = new_repository(tmp_path / "library")
    commit(library, "library.py", "VERSION = 1")
    git(repository, "submodule", "--quiet", "add", f"file://{library}", "vendor/library")
    commit(repository, "with.txt", "a submodule")
    git(repository, "tag", "--force", "base")
    new = commit(library, "library.py", "VERSION = 2")
    git(repository / "vendor/library", "fetch", "--quiet", "origin")
    git(repository / "vendor/library", "checkout", "--quiet", new)
    commit(repository, "with.txt", "a newer one")
    return repository


def test_submodules_are_those_of_the_base(with_submodule, checked_out):
    checkout = checked_out(with_submodule, "base")
    assert (checkout.tree / "vendor/library/library.py").read_text() == "VERSION = 1"
    assert (with_submodule / "vendor/library/library.py").read_text() == "VERSION = 2"
    assert worktrees(with_submodule / "vendor/library") == 2
    checkout.close()
    assert worktrees(with_submodule) == worktrees(with_submodule / "vendor/library") == 1


def test_a_submodule_without_the_commit_is_refused(with_submodule, tmp_path):
    git(tmp_path, "clone", "--quiet", f"file://{with_submodule}", "clone")
    clone = tmp_path / "clone"
    git(clone, "submodule", "--quiet", "update", "--init", "--depth=1")
    checkout = Checkout(find_commit(clone, "base"))
    with pytest.raises(UsageError, match=r"the base needs commit \w+ of the submodule .* fetch it"):
        checkout.open()
    assert worktrees(clone) == 1
    assert not list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


def test_a_submodule_that_this_tree_does_without(with_submodule, tmp_path, checked_out):
    git(tmp_path, "clone", "--quiet", f"file://{with_submodule}", "clone")
    checkout = checked_out(tmp_path / "clone", "base")
    assert list((checkout.tree / "vendor/library").iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_uses_is_not(
    repository, checked_out
):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pytest_diffspeed.arms.base_commit.checkout import Checkout, find_commit\n"
        "checkout = Checkout(find_commit(Path(sys.argv[1]), 'base'))\n"
        "checkout.open()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(repository)], check=False)
    assert killed.returncode == -9
    assert worktrees(repository) == 2
    living = checked_out(repository, "base")
    assert worktrees(repository) == 2
    remove_abandoned(repository)
    assert (living.tree / "kernel.py").is_file()


def test_worktrees_of_others_are_left_alone(repository, tmp_path):
    git(repository, "worktree", "add", "--quiet", "--detach", str(tmp_path / "mine"), "base")
    remove_abandoned(repository)
    assert (tmp_path / "mine/kernel.py").is_file()
    assert worktrees(repository) == 2


def test_a_project_that_the_repository_ignores_is_refused(repository):
    commit(repository, ".gitignore", "scratch/")
    (repository / "scratch").mkdir()
    with pytest.raises(UsageError, match=r"ignores .*scratch, so none of its commits has a tree"):
        find_commit(repository / "scratch", "main")

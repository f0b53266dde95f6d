"""Checks a commit out beside the working tree, in a git worktree that is gone afterwards.

The working tree itself is never touched, whatever is edited in it.  A process that is killed leaves
its worktree behind: it holds a lock on it while it lives, so the next session sees that nobody does
any more and removes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ...common.errors import UsageError
from ...common.git import GitError, git

PREFIX = "diffspeed-base-"
CHECKOUT_S = 600.0
"""Large trees on slow disks; who takes longer waits for something that will not come."""
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")  # a post-checkout hook is not for our copy


@dataclass(frozen=True)
class BaseCommit:
    """``rev`` is what the user wrote, ``name`` the commit it means.

    ``top`` is the repository's top; ``below`` is where pytest's rootdir lies in it.
    """

    rev: str
    name: str
    at: str
    subject: str
    top: Path
    below: Path

    @property
    def short(self) -> str:
        return self.name[:12]


def find_commit(rootdir: Path, rev: str) -> BaseCommit:
    """The commit that ``rev`` means in the repository around ``rootdir``.

    Raises:
        UsageError: there is no repository, or no such commit in it; says what to do.
    """
    try:
        top = Path(git(rootdir, "rev-parse", "--show-toplevel").rstrip("\n"))
    except GitError as error:
        raise UsageError(
            f"{rootdir} is in no git repository that can be read ({error}), so there is no other "
            "commit to compare with"
        ) from None
    try:
        name = git(
            top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}"
        ).strip()
        at, subject = git(top, "log", "-1", "--format=%cI%n%s", name).split("\n", 1)
    except GitError:
        raise UsageError(_not_found(top, rev)) from None
    below = Path(os.path.relpath(os.path.realpath(rootdir), os.path.realpath(top)))
    if below != Path() and _ignores(top, below):
        raise UsageError(
            f"the repository in {top} ignores {rootdir}, so none of its commits has a tree to "
            "compare with; put the project under git"
        )
    return BaseCommit(rev, name, at, subject.rstrip("\n"), top, below)


def _ignores(top: Path, below: Path) -> bool:
    try:
        git(top, "check-ignore", "--quiet", str(below))
    except GitError:
        return False
    return True


def _not_found(top: Path, rev: str) -> str:
    sentence = f"{rev!r} is no commit that the repository in {top} has"
    try:
        shallow = git(top, "rev-parse", "--is-shallow-repository").strip() == "true"
        listed = git(top, "branch", "--all", "--format=%(refname:short)").splitlines()
    except GitError:
        return sentence
    if shallow:
        return (
            f"{sentence}: it is a shallow clone; fetch it with "
            "`git fetch --depth=1 origin <commit>`, or clone all of it "
            "(`fetch-depth: 0` of actions/checkout)"
        )
    # Of a detached head, as in CI, git lists "(HEAD detached at 9e10f76)" among them.
    branches = [name for name in listed if not name.startswith("(")]
    return f"{sentence}; it has the branches {', '.join(branches[:10]) or '(none)'}"


class Checkout:
    """A commit in a folder of its own, from :meth:`open` to :meth:`close`."""

    def __init__(self, commit: BaseCommit) -> None:
        self._commit = commit
        self._folder: Path | None = None
        self._lock: FileLock | None = None
        self._repositories: list[Path] = []

    @property
    def tree(self) -> Path:
        """The top of the checked out tree."""
        assert self._folder is not None, "open() comes first"
        return self._folder / self._commit.top.name

    @property
    def rootdir(self) -> Path:
        """Where pytest's rootdir lies in it; made where the base has no such folder yet."""
        folder = self.tree / self._commit.below
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def open(self) -> None:
        """Check out, submodules too.

        Raises:
            UsageError: git refused, or a submodule lacks the commit that the base needs.
        """
        remove_abandoned(self._commit.top)
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = FileLock(self._folder / "lock")
        self._lock.acquire()
        try:
            self._add(self._commit.top, self.tree, self._commit.name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove it; safe to call twice."""
        folder, self._folder = self._folder, None
        if self._lock is not None:
            self._lock.release()
        if folder is None:
            return
        shutil.rmtree(folder, ignore_errors=True)
        for repository in reversed(self._repositories):
            _prune(repository)
        self._repositories.clear()

    def _add(self, repository: Path, into: Path, name: str) -> None:
        self._repositories.append(repository)
        try:
            git(
                repository,
                *_NO_HOOKS,
                "worktree",
                "add",
                "--detach",
                "--force",
                str(into),
                name,
                timeout_s=CHECKOUT_S,
            )
            rows = git(into, "ls-files", "-z", "--stage").split("\0")
        except GitError as error:
            raise UsageError(
                f"commit {name[:12]} of {repository} cannot be checked out beside the working "
                f"tree: {error}"
            ) from None
        for row in rows:
            about, _, below = row.partition("\t")
            if about.startswith("160000 "):
                self._add_submodule(repository / below, into / below, about.split(" ")[1])

    def _add_submodule(self, own: Path, into: Path, name: str) -> None:
        """From this tree's own clone of the submodule: nothing is fetched."""
        if not (own / ".git").exists():
            return  # this tree does without it, and so does the base
        try:
            git(own, "cat-file", "-e", f"{name}^{{commit}}")
        except GitError:
            raise UsageError(
                f"the base needs commit {name[:12]} of the submodule {own}, which is not there; "
                f"fetch it with `git -C {own} fetch origin {name}`"
            ) from None
        self._add(own, into, name)


def remove_abandoned(repository: Path) -> None:
    """Remove the worktrees of processes that were killed; git itself is told about them too."""
    try:
        listed = git(repository, "worktree", "list", "--porcelain")
    except GitError:
        return
    trees = [Path(line[9:]) for line in listed.splitlines() if line.startswith("worktree ")]
    for folder in {tree.parent for tree in trees if tree.parent.name.startswith(PREFIX)}:
        lock = FileLock(folder / "lock", timeout=0)
        try:
            if folder.is_dir():
                lock.acquire()
        except (Timeout, OSError):
            continue  # its process lives, or it is somebody else's
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
    _prune(repository)


def _prune(repository: Path) -> None:
    with suppress(GitError):  # what is left is an entry in .git/worktrees, until the next session
        git(repository, "worktree", "prune")

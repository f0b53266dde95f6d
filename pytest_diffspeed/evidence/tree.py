"""A digest of the user's working tree: other content, other digest.

Committing, staging or stashing nothing changes it, since only names and contents count.  An edit
that nobody committed does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from ..common.git import GitError, git
from ..common.workdir import NAME

LARGE_BYTES = 64 * 2**20
"""A larger file that git does not have counts by size and time of change: reading it would take
longer than what is measured."""
TOTAL_BYTES = 512 * 2**20
"""After so many bytes of contents, all further files count by size and time of change."""
MOST_FILES = 20_000
"""Without git, so many source files are looked at, in the order of their names."""

CACHES = frozenset(
    {NAME, "__pycache__", ".benchmarks", ".hypothesis", ".ipynb_checkpoints", ".mypy_cache", ".nox"}
    | {".pytest_cache", ".ruff_cache", ".tox", ".venv", "htmlcov", "node_modules", "site-packages"}
    | {"torch_compile_debug", "venv"}
)
"""Folders that tools write and that make nothing faster."""
REPORTS = frozenset(
    {".coverage", ".csv", ".db", ".gif", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".log"}
    | {".out", ".png", ".prof", ".pyc", ".pyo", ".sarif", ".sqlite", ".svg", ".swp", ".tmp"}
    | {".txt", ".webp", ".xml"}
)
"""Endings of what tests and tools leave beside the sources.  Untracked, such a file does not count:
the first run's ``--junitxml`` would make the second run another key."""
SOURCES = frozenset(
    {".c", ".cc", ".cfg", ".cpp", ".cu", ".cuh", ".cxx", ".h", ".hip", ".hpp", ".ini", ".json"}
    | {".metal", ".ptx", ".py", ".pyd", ".pyx", ".pxd", ".safetensors", ".so", ".toml", ".txt"}
    | {".yaml", ".yml"}
)
"""Without git, files with these endings count, whatever lies around them."""


@dataclass(frozen=True)
class Tree:
    """``how`` says what the digest covers: ``"git"``, or which files where there is no git."""

    digest: str
    how: str


def working_tree(rootdir: Path, *, leave_out: Iterable[Path] = ()) -> Tree:
    """The digest of the tree that ``rootdir`` lies in.

    In a git repository all of it counts, from its top: tracked files, edits, and untracked files
    that are not ignored; submodules too.  Elsewhere it is the source files below ``rootdir``, at
    most ``MOST_FILES``.  This package's own folder and caches never count, nor does ``leave_out``.
    """
    mine = frozenset(os.path.abspath(path) for path in leave_out)
    try:
        top = top_of(rootdir)
        return Tree(_digest(_Contents(mine).of_repository(top)), "git")
    except GitError:
        files = list(_source_files(rootdir))
        looked_at = files[:MOST_FILES]
        how = "source files" if looked_at == files else f"the first {MOST_FILES} source files"
        return Tree(_digest(_Contents(mine).of_files(rootdir, looked_at)), how)


def commit(rootdir: Path) -> str | None:
    """The commit that is checked out where ``rootdir`` lies; ``None`` without git or a commit."""
    try:
        return git(top_of(rootdir), "rev-parse", "--verify", "HEAD").strip()
    except GitError:
        return None


def why_unreadable(rootdir: Path) -> str | None:
    """Why git tells nothing of the repository that ``rootdir`` lies in; ``None`` where it does, or
    where there is no repository.
    """
    if not any((folder / ".git").exists() for folder in (rootdir, *rootdir.parents)):
        return None
    try:
        git(rootdir, "rev-parse", "--show-toplevel")
    except GitError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Commit:
    """What is checked out; ``at`` is the committer's time in ISO 8601, ``subject`` the message's
    first line.  ``dirty``: something that git tracks, or an untracked file, differs from it.
    """

    name: str
    at: str
    subject: str
    dirty: bool


def checked_out(rootdir: Path) -> Commit | None:
    """The commit that lies under the working tree; ``None`` without git or a commit."""
    try:
        top = top_of(rootdir)
        name, at, subject = git(top, "log", "-1", "--format=%H%n%cI%n%s").split("\n", 2)
        dirty = any(map(_is_edit, _rows(top, "status", "--porcelain", "-z", "--no-renames")))
    except GitError:
        return None
    return Commit(name, at, subject.rstrip("\n"), dirty)


def _is_edit(row: str) -> bool:
    """Whether a row of ``git status`` is more than a report that a run left behind."""
    return not (row.startswith("??") and PurePosixPath(row).suffix in REPORTS)


def _digest(entries: dict[str, str]) -> str:
    whole = sha256()
    for name, content in sorted(entries.items()):
        # Lengths, so that no name can be read as the end of the entry before it.
        line = f"{len(name)} {name} {content}\n"
        whole.update(line.encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


class _Contents:
    """Digests of files, within ``TOTAL_BYTES`` altogether."""

    def __init__(self, leave_out: frozenset[str]) -> None:
        self._leave_out = leave_out
        self._left_bytes = TOTAL_BYTES

    def of_repository(self, top: str) -> dict[str, str]:
        """Name and content of each file of a repository, its submodules' too.

        Git's index gives the content of all that did not change, so only the changes are read.
        """
        entries: dict[str, str] = {}
        for row in _rows(top, "ls-files", "-z", "--stage"):
            about, _, name = row.partition("\t")
            mode, blob, _ = about.split(" ")
            nested = os.path.join(top, name)
            if mode == "160000" and os.path.exists(os.path.join(nested, ".git")):
                blob = _digest(self.of_repository(nested))
            entries[name] = blob
        modified = set(_rows(top, "ls-files", "-z", "--modified"))
        untracked = set(_rows(top, "ls-files", "-z", "--others", "--exclude-standard"))
        installed = tuple(
            name.removesuffix("pyvenv.cfg") for name in untracked if name.endswith("/pyvenv.cfg")
        )
        untracked = {
            name
            for name in untracked
            if PurePosixPath(name).suffix not in REPORTS and not name.startswith(installed)
        }
        submodules = {name for name in modified if os.path.isdir(os.path.join(top, name))}
        changed = (modified - submodules) | untracked
        for name in changed:
            entries.pop(name, None)  # deleted, unless it is there
        entries |= self._blobs(top, sorted(changed))
        return {
            name: content for name, content in entries.items() if not self._is_left_out(top, name)
        }

    def of_files(self, folder: Path, names: Iterable[str]) -> dict[str, str]:
        entries: dict[str, str] = {}
        for name in names:
            path = os.path.join(folder, name)
            try:
                by_stat = self._by_stat(os.stat(path))
                if by_stat is None:
                    with open(path, "rb") as file:
                        by_stat = sha256(file.read()).hexdigest()
            except OSError:
                continue  # gone, or not ours to read: nobody can have measured with it
            if not self._is_left_out(str(folder), name):
                entries[name] = by_stat
        return entries

    def _blobs(self, top: str, names: Iterable[str]) -> dict[str, str]:
        """The content of changed files, called as git will call it once they are committed."""
        entries: dict[str, str] = {}
        ask: list[str] = []
        for name in names:
            path = os.path.join(top, name)
            if self._is_left_out(top, name) or not os.path.lexists(path):
                continue
            if name.endswith("/"):  # a repository of its own that is no submodule
                if os.path.exists(os.path.join(path, ".git")):
                    entries[name] = _digest(self.of_repository(path))
                continue
            about = os.lstat(path)
            if stat.S_ISLNK(about.st_mode):
                target = os.fsencode(os.readlink(path))
                entries[name] = git(top, "hash-object", "--stdin", given=target).strip()
            elif stat.S_ISREG(about.st_mode) and os.access(path, os.R_OK):
                by_stat = self._by_stat(about)
                if by_stat is not None:
                    entries[name] = by_stat
                elif "\n" in name or name.startswith('"'):  # git's list is one a line
                    entries |= self.of_files(Path(top), [name])
                else:
                    ask.append(name)
        if ask:
            given = os.fsencode("".join(f"{name}\n" for name in ask))
            blobs = git(top, "hash-object", "--stdin-paths", given=given).split()
            entries |= dict(zip(ask, blobs, strict=True))
        return entries

    def _by_stat(self, about: os.stat_result) -> str | None:
        """What stands for a file that is too large to be read; ``None``: read it."""
        if about.st_size <= min(LARGE_BYTES, self._left_bytes):
            self._left_bytes -= about.st_size
            return None
        return f"{about.st_size} bytes, changed at {about.st_mtime_ns}"

    def _is_left_out(self, top: str, name: str) -> bool:
        return (
            not CACHES.isdisjoint(PurePosixPath(name).parts)
            or os.path.abspath(os.path.join(top, name)) in self._leave_out
        )


def _source_files(rootdir: Path) -> Iterator[str]:
    """Names below ``rootdir``, one more than ``MOST_FILES`` at most."""
    given = 0
    for folder, folders, files in os.walk(rootdir):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in CACHES
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        )
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.splitext(name)[1] in SOURCES and os.path.isfile(path):
                yield os.path.relpath(path, rootdir).replace(os.sep, "/")
                given += 1
                if given > MOST_FILES:
                    return


def top_of(rootdir: Path) -> str:
    """The top of the repository that tracks ``rootdir``.

    A folder that its repository ignores (a scratch folder below it) has no git of its own: all of
    its edits would be invisible.
    """
    top = git(rootdir, "rev-parse", "--show-toplevel").rstrip("\n")
    if os.path.realpath(top) != os.path.realpath(rootdir):
        try:
            git(rootdir, "check-ignore", "--quiet", os.path.realpath(rootdir))
        except GitError:
            return top
        raise GitError(f"{rootdir} is ignored by the repository around it") from None
    return top


def _rows(top: str, *args: str) -> list[str]:
    return [row for row in git(top, *args).split("\0") if row]

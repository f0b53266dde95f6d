"""Code that runs and that the working tree does not hold: modules from elsewhere, and packages.

A factory beside the repository, a package that is installed in place, a module that git ignores: an
edit of one is another program, whatever the tree says.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..common.git import GitError, git
from ..common.paths import INSTALLED
from .tree import top_of

_OWN = Path(__file__).resolve().parents[1]
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in INSTALLED)
_LIBRARY = tuple(
    os.path.realpath(sysconfig.get_path(kind)) + os.sep for kind in ("stdlib", "platstdlib")
)
_SCRIPTS = ("__main__", "__mp_main__")
"""What started this process, such as pytest's own script."""


class CodeBesideTheTree:
    """What one session runs from outside the working tree.

    A file counts as it was when it was seen first, as the tree does: an edit that is made meanwhile
    is not what is measured.
    """

    def __init__(self, rootdir: Path) -> None:
        self._rootdir = rootdir
        self._contents: dict[str, str | None] = {}
        """By path; ``None``: the tree's digest holds it."""
        self._installed: str | None = None
        self._own: dict[str, str] | None = None

    def as_dict(self, modules: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Digests: of all that is ``installed``, and of the file of each of ``modules`` (those that
        are loaded) that is neither installed nor in the tree.

        By the module's name, so that a checkout in another place has the same.  Of this package
        all files count wherever it is not installed, since it loads its parts when it needs them.
        """
        if self._installed is None:
            self._installed = installed_distributions()
        if self._own is None:
            self._own = _own_files()
        files = dict(_files(sys.modules if modules is None else modules))
        new = set(files.values()) - self._contents.keys()
        if new:
            of_tree = _in_the_tree(self._rootdir, new)
            self._contents |= {p: None if p in of_tree else _content(p) for p in new}
        loaded = {name: self._contents[path] for name, path in files.items()}
        digests = {name: content for name, content in loaded.items() if content is not None}
        return {"installed": self._installed, "modules": {**digests, **self._own}}


def installed_distributions() -> str:
    """A digest of the names and versions of all that is installed here."""
    found = {
        (str(about["Name"]), str(about["Version"]))
        for about in (one.metadata for one in importlib.metadata.distributions())
    }
    return _short(repr(sorted(found)).encode())


def _own_files() -> dict[str, str]:
    if _is_installed(str(_OWN)):
        return {}  # its version says it
    contents = (_content(str(path)) for path in sorted(_OWN.rglob("*.py")))
    return {_OWN.name: _short("".join(contents).encode())}


def _files(modules: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Name and path of each module that lies in a file outside what is installed."""
    for name, module in list(modules.items()):
        file = getattr(module, "__file__", None)
        if name in _SCRIPTS or not isinstance(file, str) or _is_installed(file):
            continue
        path = os.path.realpath(file)
        if os.path.isfile(path) and not _is_installed(path) and not _is_below(path, _OWN):
            yield name, path


def _is_installed(path: str) -> bool:
    return any(part in path for part in _INSTALLED) or path.startswith(_LIBRARY)


def _is_below(path: str, folder: Path) -> bool:
    return path.startswith(os.path.realpath(folder) + os.sep)


def _in_the_tree(rootdir: Path, paths: set[str]) -> set[str]:
    """Those that the digest of the working tree holds already."""
    try:
        top = top_of(rootdir)
    except GitError:
        return {path for path in paths if _is_below(path, rootdir)}
    inside = {path for path in paths if _is_below(path, Path(top))}
    given = "".join(f"{path}\0" for path in sorted(inside))
    try:
        ignored = git(top, "check-ignore", "-z", "--stdin", given=os.fsencode(given))
    except GitError:  # it fails where none of them is ignored, too
        return inside
    return inside - set(ignored.split("\0"))


def _content(path: str) -> str:
    try:
        return _short(Path(path).read_bytes())
    except OSError as error:  # gone since, or not ours to read: another state than any content
        return type(error).__name__


def _short(content: bytes) -> str:
    return sha256(content).hexdigest()[:32]

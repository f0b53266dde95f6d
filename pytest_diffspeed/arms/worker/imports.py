"""Keeps a worker of the base from importing the tree that it is compared with.

An editable install, or a folder that somebody put on the path, would otherwise make both arms run
the same code: the gate would compare a tree with itself and pass forever.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ...common.errors import MeasurementError, SelfComparisonError
from ...common.git import GitError, git
from ..base_commit.place import is_installed

_OWN = __name__.partition(".")[0]


def drop_from_path(tree: Path) -> None:
    """Take everything below ``tree`` off the import path, but for installed packages."""
    sys.path[:] = [entry for entry in sys.path if not _lies_in(entry, tree)]
    sys.path_importer_cache.clear()


def assert_not_imported(tree: Path, *, shared: bool = True) -> None:
    """Refuse to go on if something was imported from ``tree`` all the same.

    ``shared`` says that the other arm has the same installed packages: what was built from ``tree``
    and installed is then its code too.

    Raises:
        MeasurementError: names the modules.
    """
    found = sorted(_imported_from(tree))
    how = f"from {tree}, which is the tree that it is compared with (installed in editable mode?)"
    if not found and shared:
        found = sorted(_installed_from(tree))
        how = f"as they were installed from {tree}, so that both would run the same code"
    if found:
        raise MeasurementError(
            f"the base imported {', '.join(found[:5])} {how}; give the base an environment of its "
            "own with --diffspeed-base-python"
        )


def assert_uses_base(tree: Path, source: str) -> None:
    """Refuse an arm that nothing of the base's ``tree`` has a part in.

    Raises:
        SelfComparisonError: both arms run installed code only, and that is the same.
    """
    root = Path(os.path.realpath(tree))
    folder = Path(os.path.realpath(os.path.expanduser(source)))
    if any(_imported_from(root)) or (folder.is_dir() and folder.is_relative_to(root)):
        return
    raise SelfComparisonError(
        f"it would compare {source!r} with itself: the pipeline takes nothing from the base's "
        "tree, only from installed packages, which both share; give the base an environment of "
        "its own with --diffspeed-base-python"
    )


def _imported_from(tree: Path) -> Iterator[str]:
    for name, file in _imported():
        if _lies_in(file, tree):
            yield name


def _installed_from(tree: Path) -> Iterator[str]:
    """Imported modules of packages that were built from ``tree`` and installed."""
    files: set[str] = set()
    for distribution in importlib.metadata.distributions():
        origin = distribution.read_text("direct_url.json")  # what pip and uv write (PEP 610)
        if origin is not None and _is_built_from(origin, tree):
            listed = distribution.files or ()
            files |= {os.path.realpath(str(distribution.locate_file(file))) for file in listed}
    if files:
        yield from (name for name, file in _imported() if os.path.realpath(file) in files)


def _is_built_from(direct_url: str, tree: Path) -> bool:
    """From a folder of the tree, or an archive there that is none of its sources."""
    try:
        url = urlsplit(json.loads(direct_url)["url"])
    except (ValueError, KeyError, TypeError):
        return False
    path = Path(os.path.realpath(url2pathname(url.path)))
    if url.scheme != "file" or not path.is_relative_to(tree):
        return False
    if path.is_dir():
        return True
    try:  # a wheel that is kept in the repository is a dependency, as any other
        git(tree, "ls-files", "--error-unmatch", str(path))
    except GitError:
        return True
    return False


def _imported() -> Iterator[tuple[str, str]]:
    """Modules with their files; without this package, which measures both arms alike."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not os.path.isabs(file):
            continue  # torch.ops and its like say "_ops.py"
        if name.partition(".")[0] != _OWN:
            yield name, file


def _lies_in(path: str, tree: Path) -> bool:
    real = Path(os.path.realpath(path or os.getcwd()))
    return real.is_relative_to(tree) and not is_installed(real, sys.prefix, tree)

"""Keeps a worker of the base from importing the tree that it is compared with.

An editable install, or a folder that somebody put on the path, would otherwise make both arms run
the same code: the gate would compare a tree with itself and pass for ever.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..base.place import is_installed
from ..errors import MeasurementError

_OWN = __name__.partition(".")[0]


def leave(tree: Path) -> None:
    """Take everything below ``tree`` off the import path, but for installed packages."""
    sys.path[:] = [entry for entry in sys.path if not _lies_in(entry, tree)]
    sys.path_importer_cache.clear()


def require_left(tree: Path) -> None:
    """Refuse to go on if something was imported from ``tree`` all the same.

    Raises:
        MeasurementError: names the modules.
    """
    found = sorted(_imported_from(tree))
    if found:
        raise MeasurementError(
            f"the base imported {', '.join(found[:5])} from {tree}, which is the tree that it is "
            "compared with: these modules are installed from there (in editable mode); give the "
            "base an environment of its own with --diffspeed-base-python"
        )


def _imported_from(tree: Path) -> Iterator[str]:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        # This package measures both arms alike, wherever it lies.
        if isinstance(file, str) and name.partition(".")[0] != _OWN and _lies_in(file, tree):
            yield name


def _lies_in(path: str, tree: Path) -> bool:
    real = Path(os.path.realpath(path or os.getcwd()))
    return real.is_relative_to(tree) and not is_installed(real, sys.prefix)

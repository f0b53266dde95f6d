"""How the path of a file is shown to people."""

from __future__ import annotations

import os

_PACKAGES = ("site-packages/", "dist-packages/")


def short_path(path: str) -> str:
    """Relative to the working directory, or without the folder in which packages are installed."""
    if path.startswith(os.getcwd() + os.sep):
        path = os.path.relpath(path)
    for folder in _PACKAGES:
        path = path.rpartition(folder)[2]
    return path

"""How the path of a file is shown to people, and what is the same file in two trees."""

from __future__ import annotations

import os
from pathlib import Path

INSTALLED = ("site-packages", "dist-packages")
"""Names of the folders into which pip, and Debian's, install packages."""


def in_packages(path: str) -> str | None:
    """What follows the folder of installed packages; ``None`` outside of one."""
    parts = path.replace("\\", "/").split("/")
    places = [place for place, part in enumerate(parts[:-1]) if part in INSTALLED]
    return "/".join(parts[places[-1] + 1 :]) if places else None


def short_path(path: str) -> str:
    """For people: from the folder of installed packages on, or from the working directory."""
    installed = in_packages(path)
    if installed is not None:
        return installed
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path


def path_in_tree(path: str, root: Path) -> str:
    """The same name for the same file of two trees, or of two environments.

    From the folder of installed packages on, or relative to ``root``; a file of neither keeps its
    whole path.
    """
    installed = in_packages(path)
    if installed is not None:
        return installed
    real, real_root = Path(path).resolve(), root.resolve()
    return real.relative_to(real_root).as_posix() if real.is_relative_to(real_root) else path

"""Where a worker process runs: its interpreter, its folder, and what it can import."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.paths import INSTALLED


@dataclass(frozen=True)
class Place:
    """``path`` is the worker's ``PYTHONPATH``; ``root`` is the top of the tree that it works on.

    ``not_from`` is a tree from which it must import nothing: that of the other arm.
    ``variables`` is the environment that it is given; ``None``: this process's.
    """

    python: str
    folder: Path
    path: tuple[str, ...]
    root: Path
    not_from: Path | None = None
    variables: Mapping[str, str] | None = None


def this_process() -> Place:
    """This process's own: all that it can import, a worker can import too."""
    cwd = os.getcwd()
    return Place(sys.executable, Path(cwd), tuple(entry or cwd for entry in sys.path), Path(cwd))


def base_place(
    *,
    top: Path,
    tree: Path | None,
    python: str | None,
    entries: Sequence[str],
    cwd: Path,
    prefix: str = sys.prefix,
) -> Place:
    """Where the base's workers run.

    What this process imports from the repository at ``top``, the base imports from the same place
    of ``tree``.  Installed packages stay those of the interpreter.

    Args:
        top: the repository that this process works on.
        tree: the checked out base; ``None``: ``top`` itself, in another environment.
        python: the base's own interpreter, or ``None``.
        entries: this process's ``sys.path``.
        cwd: this process's working directory.
        prefix: this interpreter's environment, which may lie inside the repository.
    """
    top, cwd = Path(os.path.realpath(top)), Path(os.path.realpath(cwd))
    moved: list[str] = []
    for entry in entries:
        real = Path(os.path.realpath(entry or cwd))
        if real.is_relative_to(top) and not is_installed(real, prefix, top):
            moved.append(str(real if tree is None else tree / real.relative_to(top)))
        elif python is None:
            moved.append(str(real))
    if not cwd.is_relative_to(top):
        folder = top if tree is None else tree
    else:
        folder = cwd if tree is None else tree / cwd.relative_to(top)
    return Place(
        python or sys.executable,
        folder,
        tuple(dict.fromkeys(moved)),
        root=top if tree is None else tree,
        not_from=None if tree is None else top,
    )


def is_installed(path: Path, prefix: str, tree: Path) -> bool:
    """Whether ``path`` in ``tree`` belongs to an environment and not to the user's sources.

    The environment at ``prefix`` counts where it lies inside the tree, as ``.venv``.  Around it, as
    ``/usr`` is around ``/usr/src/app``, it says nothing: all of the tree would be "installed".
    """
    inside, environment = path.relative_to(tree), Path(os.path.realpath(prefix))
    in_tree = environment != tree and environment.is_relative_to(tree)
    return (in_tree and path.is_relative_to(environment)) or bool(
        set(INSTALLED) & set(inside.parts)
    )

"""Workers of pytest-xdist in other folders and on other machines: what only they have is carried.

Reports are written by the controller, which finds no file of such a worker: pictures come with the
report of their test, and are kept where its records say that they are.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ..common.workdir import NAME, workdir
from .options import project_folder
from .stash import options_of

_INPUT = "diffspeed_folder"
"""Under this name xdist carries the controller's folder to each worker."""
MOST_BYTES = 16 * 2**20
"""Of the pictures of one test; more are left on the worker, and the report names what it lacks."""


class Gateways:
    """Tells workers where the controller writes, before they start."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        spec = node.gateway.spec
        if options_of(self._config).save_counts and (not spec.popen or spec.chdir):
            raise pytest.UsageError(
                f"--diffspeed-save-counts: the worker {spec} has a tree of its own, and its counts "
                "would stay there; save them without --tx, or with -n"
            )
        node.workerinput[_INPUT] = _place(project_folder(self._config))


def pictures_to_carry(config: pytest.Config, outcome: Mapping[str, Any]) -> dict[str, bytes]:
    """The pictures of a test by their paths, in a worker whose folder the controller has not."""
    there = getattr(config, "workerinput", {}).get(_INPUT)
    folder = project_folder(config)
    if there is None or there == _place(folder):
        return {}
    found: dict[str, bytes] = {}
    left = MOST_BYTES
    for name in _pictures(outcome):
        try:
            content = (folder / name).read_bytes()
        except OSError:  # "not written: …", which the report says itself
            continue
        left -= len(content)
        if left >= 0:
            found[name.replace(os.sep, "/")] = content
    return found


def keep_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Write what a worker carried below our folder in ``folder``, and nowhere else."""
    for name, content in pictures.items():
        path = PurePosixPath(name)
        if path.is_absolute() or path.parts[:1] != (NAME,) or ".." in path.parts:
            continue
        target = workdir(folder).joinpath(*path.parts[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _pictures(outcome: Mapping[str, Any]) -> Iterable[str]:
    """What its records name, each once."""
    figures = (record.get("figures") or {} for record in outcome["records"])
    of_gates = (name for one in figures for name in one.get("pictures") or ())
    return dict.fromkeys([*map(str, outcome["images"]), *map(str, of_gates)])


def _place(folder: Path) -> str:
    """A folder of a machine: two machines may have one of the same name."""
    return f"{platform.node()}:{folder.resolve()}"

"""The lines of source that a gate failed for, where its record names any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.paths import in_packages
from .loose import count, mapping, mappings, word, words

Line = tuple[str, int]
"""A file as the record names it, and a line in it, from 1."""

_MAY_BLOCK = "may_block"
"""Kind of a copy that counts where the gate is strict only."""


def guilty_lines(figures: Mapping[str, Any]) -> list[Line]:
    """What a gate that counts found, in its order: where it made the CPU wait, broke the graph,
    compiled again or asks more of a GPU.  Against a base, the lines that the base does not have.

    What an allowance covers is not guilty.
    """
    if "new_sites" in figures:
        sites = mappings(figures["new_sites"])
    else:
        strict = figures.get("strict") is True
        sites = [
            site
            for site in mappings(figures.get("sites"))
            if word(site.get("allowed")) is None and (strict or site.get("kind") != _MAY_BLOCK)
        ]
        for component in mapping(figures.get("components")).values():
            sites += mappings(mapping(component).get("breaks"))
        sites += mappings(mapping(figures.get("report")).get("recompiles"))
    found = [(word(site.get("file")), count(site.get("line"))) for site in sites]
    for text in words(mapping(figures.get("gpu_cost")).get("lines")):
        file, _, line = text.rpartition(":")
        found.append((file or None, int(line) if line.isdecimal() else None))
    return [(file, line) for file, line in found if file is not None and line]


def in_checkout(file: str, root: Path, checkout: Path) -> str | None:
    """``file`` from the root of the checkout, with forward slashes; ``None`` where it is not there.

    Lines against a base count from the root of the repository, others are absolute or start at
    ``root``.  What pip installed below the checkout, in a ``.venv`` as most have, is nobody's code
    of the pull request.
    """
    top = checkout.resolve()
    for start in (checkout, root):
        try:
            whole = (start / file).resolve()
            if whole.is_relative_to(top) and in_packages(str(whole)) is None and whole.is_file():
                return whole.relative_to(top).as_posix()
        except (OSError, ValueError):  # a name that no file can have
            return None
    return None

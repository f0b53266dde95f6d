"""Text for a terminal of a hundred columns: short paths, cuts that are seen, lines that wrap."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from ..common.paths import INSTALLED

WIDTH = 100
"""Columns: what a log of CI and half of a screen show without wrapping."""
INDENT = "    "
_LONGEST_PLACE = 48
"""Columns of ``file.py:18``, so that its line of code has the other half."""
_PLACE = re.compile(r"[^\s'\"()]+\.\w+:\d+")
_PACKAGES = re.compile(rf"[^\s'\"()]*[\\/](?:{'|'.join(INSTALLED)})[\\/]")


def near(text: str, root: Path) -> str:
    """``text`` with files named from ``root`` or from the folder of installed packages on."""
    shorter = _PACKAGES.sub("", text)
    return shorter.replace(f"{root}/", "") if root.is_absolute() else shorter


def narrowed(place: str, most: int = _LONGEST_PLACE) -> str:
    """``diffusers/…/x.py:123``: folders in the middle go first, file and line never."""
    folder, _, file = place.rpartition("/")
    first = folder.partition("/")[0]
    for shorter in (place, f"{first}/…/{file}", f"…/{file}"):
        if len(shorter) <= most:
            return shorter
    return f"…{place[1 - most :]}"


def clipped(text: str, most: int) -> str:
    """At most ``most`` columns, the last of them an ellipsis where something is left out; before a
    ``file.py:18``, and not within.
    """
    if len(text) <= most:
        return text
    end = most - 1
    within = next((m for m in _PLACE.finditer(text) if m.start() < end < m.end()), None)
    return f"{text[: end if within is None else within.start()].rstrip()}…"


def wrapped(text: str) -> list[str]:
    """Lines of at most :data:`WIDTH` columns, the further ones indented; nothing is left out."""
    return [
        line
        for one in text.splitlines()
        for line in textwrap.wrap(
            one,
            WIDTH,
            subsequent_indent=" " * (len(one) - len(one.lstrip())) + INDENT,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    ]


def indented(text: str, most: int) -> list[str]:
    """At most so many lines, indented; the last one ends in an ellipsis where words are left."""
    return textwrap.wrap(
        _PLACE.sub(lambda place: narrowed(place[0]), text),
        WIDTH,
        initial_indent=INDENT,
        subsequent_indent=INDENT + "  ",
        max_lines=most,
        placeholder=" …",
        break_on_hyphens=False,
    )

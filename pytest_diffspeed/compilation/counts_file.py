"""The ratchet: counts that a repository keeps, which may get better and never worse.

A text file for people and for git: sorted, every line complete in itself, so that no merge can tear
a count from its name, and a blank line between the entries, so that two branches that change
different ones merge without a conflict::

    # Counts of pytest-diffspeed …

    demo | bf16+compile | unet | breaks = 0
    demo | bf16+compile | unet | graphs = 1

Where a merge keeps two lines of one count (``merge=union``), the smaller one holds: each branch
promised its own.  Knows no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..common.errors import DiffspeedError
from ..common.files import replace_file

FILE_NAME = "diffspeed-counts.txt"
COUNTS = ("graphs", "breaks", "recompiles", "ops")
"""What is counted; less is better for each."""

Entry = tuple[str, str, str]
"""Pipeline source, stack, component."""
Counts = Mapping[str, int]

_HEAD = """\
# Counts of pytest-diffspeed: they may get better, never worse.  Written by
#     pytest --diffspeed --diffspeed-save-counts
# pipeline | stack | component | what was counted.  Merge by keeping the lines of both sides.
"""
_MOST_DIGITS = 12
"""More than any count has; Python refuses to read thousands of them."""
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


class CountsFileError(DiffspeedError):
    """The file of counts cannot be read as one."""


def read_counts(path: Path) -> dict[Entry, dict[str, int]]:
    """The entries of a file.

    Raises:
        CountsFileError: names the line that makes no sense.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CountsFileError(f"cannot read the counts in {path}: {error}") from None
    entries: dict[Entry, dict[str, int]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        parsed = _parsed(content)
        if parsed is not None:
            entry, what, count = parsed
            counts = entries.setdefault(entry, {})
            counts[what] = min(count, counts.get(what, count))
        elif content.startswith(_CONFLICT):
            raise CountsFileError(
                f"{path}:{number}: a merge left a conflict here; keep the lines of both sides, "
                "take the markers out, and run the tests: smaller counts win"
            )
        else:
            raise CountsFileError(
                f"{path}:{number}: {content[:200]!r} is not `pipeline | stack | component | what = "
                f"number`, where what is one of {', '.join(COUNTS)}"
            )
    return entries


def _parsed(line: str) -> tuple[Entry, str, int] | None:
    """One line; ``None`` where it is no entry.  Takes time that grows with its length only."""
    parts = line.split(" | ")
    if len(parts) != 4 or not all(part.strip() for part in parts):
        return None
    what, equals, digits = parts[3].partition(" = ")
    known = what in COUNTS and bool(equals)
    if not known or not (digits.isascii() and digits.isdecimal()) or len(digits) > _MOST_DIGITS:
        return None
    return (parts[0], parts[1], parts[2]), what, int(digits)


def written(entries: Mapping[Entry, Counts]) -> str:
    """The text of a file with these entries: sorted, so the same entries give the same text."""
    blocks = [
        "".join(f"{' | '.join(entry)} | {name} = {counts[name]}\n" for name in sorted(counts))
        for entry, counts in sorted(entries.items())
        if counts
    ]
    return "\n".join([_HEAD, *blocks])


def write_counts(path: Path, entries: Mapping[Entry, Counts]) -> None:
    """Replace the file at once: a killed run leaves the old one."""
    replace_file(path, written(entries))


def compare(entry: Entry, saved: Counts | None, now: Counts) -> tuple[list[str], list[str]]:
    """What is worse than saved, and what is better, a sentence each.

    A count without an entry is worse: nobody agreed to it.
    """
    worse: list[str] = []
    better: list[str] = []
    name = " | ".join(entry)
    for what, count in sorted(now.items()):
        before = None if saved is None else saved.get(what)
        if before is None:
            worse.append(f"{name} has no saved count of {what} (now {count})")
        elif count > before:
            worse.append(f"{name} | {what}: {count}, saved {before}")
        elif count < before:
            better.append(f"{name} | {what}: {count}, saved {before}")
    return worse, better


def storable(part: str) -> str:
    """A name, a prompt in it for example, as it can stand in the file."""
    return re.sub(r"[|\[\]\s]+", " ", part).strip()


def checked_entry(parts: Iterable[str]) -> Entry:
    """An entry whose parts can stand in the file.

    Raises:
        CountsFileError: a part would be read as something else.
    """
    source, stack, component = parts
    for part in (source, stack, component):
        if not part.strip() or any(sign in part for sign in ("|", "[", "]", "\n")):
            raise CountsFileError(
                f"{part!r} cannot be kept in {FILE_NAME}: names there have no '|', '[', ']' or "
                "line break"
            )
    return source, stack, component

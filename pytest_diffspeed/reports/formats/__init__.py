"""Formats of a session's report.  One file a format; adding one edits none.

A file here is found by its being there, and its name is the format's: ``--diffspeed-NAME=PATH``
writes it when a session ends, and ``diffspeed report --NAME FILE`` from records.  It has

- ``HELP``, a string without expressions in it: what the option's help says.  Sessions that write
  nothing read it from the file and do not import it.
- ``MARK``, what stands near the beginning of every file that it writes, so that nobody else's is
  replaced.
- ``write(target, finished)``, which writes the report of a
  :class:`~pytest_diffspeed.records.finished.FinishedSession` to the path ``target`` and returns a
  line for the terminal, or ``None``.
- ``SHOWS_HISTORY = True`` where it shows the history of a session's tests, which is then read.
- ``FROM_RECORDS = False`` where it makes no sense to write it from records.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ...common.literals import literals

if TYPE_CHECKING:
    from ...records.finished import FinishedSession


@dataclass(frozen=True)
class ReportFormat:
    """One format; see the top of this package."""

    name: str
    help: str
    mark: str
    write: Callable[[str, FinishedSession], str | None]
    shows_history: bool
    from_records: bool


@functools.cache
def help_of_formats() -> Mapping[str, str]:
    """What each format is, by its name."""
    found: dict[str, str] = {}
    for module, texts in literals(sys.modules[__name__], "HELP"):
        text = importlib.import_module(module).HELP if texts is None else texts[-1]
        found[module.rpartition(".")[2]] = text
    return MappingProxyType(found)


def format_of(name: str) -> ReportFormat:
    """The format called ``name``, imported now."""
    module = importlib.import_module(f"{__name__}.{name}")
    return ReportFormat(
        name,
        module.HELP,
        module.MARK,
        module.write,
        getattr(module, "SHOWS_HISTORY", False),
        getattr(module, "FROM_RECORDS", True),
    )

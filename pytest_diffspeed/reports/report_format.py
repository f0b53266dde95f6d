"""A format of a session's report, imported when one is written: see :mod:`.formats`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import formats

if TYPE_CHECKING:
    from ..records.finished import FinishedSession


@dataclass(frozen=True)
class ReportFormat:
    """One format; see the top of :mod:`.formats`."""

    name: str
    help: str
    mark: str
    write: Callable[[str, FinishedSession], str | None]
    shows_history: bool


def format_of(name: str) -> ReportFormat:
    """The format called ``name``, imported now."""
    module = importlib.import_module(f"{formats.__name__}.{name}")
    return ReportFormat(
        name,
        module.HELP,
        module.MARK,
        module.write,
        getattr(module, "SHOWS_HISTORY", False),
    )

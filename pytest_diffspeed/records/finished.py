"""A session that ended, as writers of reports, exports and history get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .lines import Lines
from .reader import RecordedSession, recorded_session
from .series import Series


def _nobody(sentence: str) -> None:
    """Where no user watches."""


@dataclass(frozen=True)
class FinishedSession:
    """Its records, in order, and pytest's rootdir, from which paths in them start.

    ``series`` is the history of its tests, where there is one; ``lines`` is the file that the
    records were read from, where they were: it knows what could not be read.  ``say`` tells the
    user at once what cannot wait for the writer's own line, such as that it waits.
    """

    records: Sequence[Mapping[str, Any]]
    rootdir: Path
    series: Sequence[Series] = ()
    lines: Lines | None = None
    say: Callable[[str], None] = field(default=_nobody, compare=False)

    @cached_property
    def session(self) -> RecordedSession:
        """The records put together."""
        if self.lines is None:
            return recorded_session(self.records, self.rootdir)
        lines = self.lines
        return recorded_session(self.records, lines.path, lines.left_out, lines.note)

"""A session that ended, as writers of reports, exports and history get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .reader import RecordedSession, recorded_session
from .series import Series


def _nobody(sentence: str) -> None:
    """Where no user watches."""


@dataclass(frozen=True)
class FinishedSession:
    """Its records, in order, and pytest's rootdir, from which paths in them start.

    The records may be those of several sessions, each behind its ``session`` line.  ``series`` is
    the history of its tests, where there is one; ``read`` is what files told, where the records
    were read: it knows what could not be read and what is missing.  ``say`` tells the user at once
    what cannot wait for the writer's own line, such as that it waits.
    """

    records: Sequence[Mapping[str, Any]]
    rootdir: Path
    series: Sequence[Series] = ()
    read: RecordedSession | None = None
    say: Callable[[str], None] = field(default=_nobody, compare=False)

    @cached_property
    def session(self) -> RecordedSession:
        """The records put together."""
        if self.read is not None:
            return self.read
        return recorded_session(self.records, self.rootdir)

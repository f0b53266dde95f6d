"""What somebody reads in ten seconds of an error: its kind, its clause, what to do next."""

from __future__ import annotations

from ..common.errors import DiffspeedError
from ..common.text import first_line
from ..records.verdict import Cause

_LONGEST_REMEDY = 200


def cause_of_error(error: DiffspeedError, kind: str | None = None) -> Cause:
    """The cause of ``error``; ``kind`` in the place of its class's own.

    What to do is the error's own word; else what stands after the last semicolon of its sentence,
    where our messages say it.
    """
    found = error.clause or first_line(error)
    remedy = error.next_step
    if remedy is None:
        before, _, after = found.rpartition("; ")
        if before and len(after) <= _LONGEST_REMEDY:
            found, remedy = before, after
    return Cause(kind or error.KIND, found, remedy or error.NEXT_STEP, error.place, error.source)

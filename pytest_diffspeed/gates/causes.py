"""What somebody reads in ten seconds of an error: its kind, its clause, what to do next."""

from __future__ import annotations

from ..common.errors import (
    DiffspeedError,
    IncompatibleError,
    NotEffectiveError,
    NotUndoneError,
    SourceError,
    UnexpectedError,
    UnknownStackError,
    UsageError,
)
from ..common.text import first_line
from ..records.verdict import Cause

# The first that holds names it.
_KINDS: tuple[tuple[type[DiffspeedError], str, str], ...] = (
    (
        NotEffectiveError,
        "NOT EFFECTIVE",
        "find what undoes it: code of the pipeline that runs after the technique was applied",
    ),
    (IncompatibleError, "DOES NOT FIT", "name another stack or another pipeline"),
    (NotUndoneError, "NOT UNDONE", "let the body put back what it changes in the pipeline"),
    (UnknownStackError, "USAGE", "correct the stack's name"),
    (SourceError, "NO PIPELINE", "see that the pipeline's source can be built and called"),
    (UsageError, "USAGE", "correct the marker or the option that it names"),
    (UnexpectedError, "RAISED", "see its traceback"),
)
_OTHER = "NOT CHECKED", "-v has the whole message"
_LONGEST_REMEDY = 200


def cause_of_error(error: DiffspeedError, kind: str | None = None) -> Cause:
    """The cause of ``error``; ``kind`` in the place of its class's own.

    What to do is the error's own word; else what stands after the last semicolon of its sentence,
    where our messages say it.
    """
    own, usual = next(((name, step) for of, name, step in _KINDS if isinstance(error, of)), _OTHER)
    found = error.clause or first_line(error)
    remedy = error.next_step
    if remedy is None:
        before, _, after = found.rpartition("; ")
        if before and len(after) <= _LONGEST_REMEDY:
            found, remedy = before, after
    return Cause(kind or own, found, remedy or usual, error.place, error.source)

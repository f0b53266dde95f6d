"""The exceptions of this package, one per meaning.

Every message is one sentence or two for the person who reads a CI log: what was wrong, where, what
would be valid, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class DiffspeedError(Exception):
    """Base of everything that this package raises on purpose.

    For where there is one line of room: ``clause`` is the message in a few words, ``next_step``
    what to do about it, ``place`` the line of code that it comes from (``file.py:18``) and
    ``source`` its text; ``None`` where nothing beside the message is known.  A class says with
    ``KIND`` what such a line begins with, and with ``NEXT_STEP`` what to do where an error itself
    does not.
    """

    KIND: ClassVar[str] = "NOT CHECKED"
    NEXT_STEP: ClassVar[str] = "-v has the whole message"

    def __init__(
        self,
        *args: object,
        clause: str | None = None,
        next_step: str | None = None,
        place: str | None = None,
        source: str | None = None,
    ) -> None:
        super().__init__(*args)
        self.clause = clause
        self.next_step = next_step
        self.place = place
        self.source = source


class UsageError(DiffspeedError, ValueError):
    """An option, a marker or an argument has a value that makes no sense."""

    KIND = "USAGE"
    NEXT_STEP = "correct the marker or the option that it names"


class WrongTypeError(UsageError, TypeError):
    """An argument is of another type than it must be, or has a name that the function lacks.

    A :class:`UsageError` too, so that one ``except`` holds all arguments that make no sense.
    """


class SourceError(DiffspeedError):
    """A pipeline source did not give a pipeline."""

    KIND = "NO PIPELINE"
    NEXT_STEP = "see that the pipeline's source can be built and called"


class AbsentSourceError(SourceError):
    """There is no such pipeline source: its module, its function or its folder does not exist."""


class UnknownStackError(UsageError):
    """A stack names a technique that does not exist, or two that contradict each other."""

    NEXT_STEP = "correct the stack's name"


class IncompatibleError(DiffspeedError):
    """A technique cannot be applied to this *pipeline* (its hardware is there)."""

    KIND = "DOES NOT FIT"
    NEXT_STEP = "name another stack or another pipeline"


class MissingHardwareError(DiffspeedError):
    """A technique needs hardware that this machine lacks: the one reason for which a test skips."""


class SelfComparisonError(DiffspeedError):
    """A gate would compare a stack with itself, and could never fire."""


class UncountableError(DiffspeedError):
    """What a gate would count leaves no trace in this stack, so any verdict would be a guess."""


class NotEffectiveError(DiffspeedError):
    """A technique was applied, and its proof shows that it did not take hold."""

    KIND = "NOT EFFECTIVE"
    NEXT_STEP = (
        "find what undoes it: code of the pipeline that runs after the technique was applied"
    )


class NotUndoneError(DiffspeedError):
    """A stack cannot be undone, or the pipeline is not what it was before."""

    KIND = "NOT UNDONE"
    NEXT_STEP = "let the body put back what it changes in the pipeline"


class MeasurementError(DiffspeedError):
    """A timed call failed or gave something that cannot be compared."""


class UnexpectedError(DiffspeedError):
    """Something raised that nobody meant to: in torch, in a pipeline's own code, or in a gate.

    ``__cause__`` is what was raised, with its traceback.
    """

    KIND = "RAISED"
    NEXT_STEP = "see its traceback"


class AbsentArmError(MeasurementError):
    """The base has no such pipeline source, so there is nothing to compare with."""


class RecordError(DiffspeedError):
    """A file of records cannot be read, or is of a version that this one does not know."""


class StoreError(DiffspeedError):
    """A history cannot be opened, read or written."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """The clause that helps with a misspelt word: the nearest match, then all that is valid."""
    names = sorted(valid)
    match = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}Valid: {', '.join(names)}."

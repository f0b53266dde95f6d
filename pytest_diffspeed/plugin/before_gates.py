"""Why a test failed before its gates: a proof, a fixture that raised, a body's own assertion."""

from __future__ import annotations

from typing import Any

import pytest

from ..common.errors import DiffspeedError
from ..common.paths import short_path
from ..common.text import first_line
from ..gates.causes import cause_of_error
from ..records.verdict import Cause
from .record_of_test import LONGEST


def failure_before_gates(
    when: str | None, raised: pytest.ExceptionInfo[BaseException] | None
) -> dict[str, Any]:
    """What an outcome says of it: a sentence for records, and what is read in ten seconds.

    Whoever reads a report must see it there, as they would a gate's.  Our own messages are whole;
    of an exception of the user's pytest shows the traceback, and keeps doing so.
    """
    in_setup = when == "setup"
    where = "set-up failed" if in_setup else "the body failed"
    kind = "SETUP" if in_setup else "TEST BODY"
    if raised is None:
        return {"why_not_run": where}
    ours = _own_error(raised.value)
    if in_setup and ours is not None:
        cause = cause_of_error(ours)
        return {
            "why_not_run": f"{where}: {first_line(raised.value)[:LONGEST]}",
            "cause": cause.as_dict(),
            "kinds": cause.kind,
        }
    last = raised.traceback[-1]
    place = f"{short_path(str(last.path))}:{last.lineno + 1}"
    message = first_line(raised.value)
    is_sentence = isinstance(raised.value, pytest.fail.Exception)  # pytest.fail's own
    text = (message if is_sentence else f"{type(raised.value).__name__}: {message}")[:LONGEST]
    of_place = f" (line {last.lineno + 1} of {short_path(str(last.path))})"
    cause = Cause(
        kind,
        text,
        "see its traceback; its gates run once it ends",
        None if is_sentence else place,
        None if is_sentence else str(last.statement).strip() or None,
    )
    return {
        "why_not_run": f"{where}: {text}{'' if is_sentence else of_place}",
        "cause": cause.as_dict(),
        "kinds": kind,
        "has_traceback": True,
    }


def _own_error(error: BaseException) -> DiffspeedError | None:
    """The error of ours that a fixture told in one sentence."""
    told: BaseException | None = error
    while isinstance(told, pytest.fail.Exception):
        told = told.__context__
    return told if isinstance(told, DiffspeedError) else None

"""Why a test failed where no gate did: a proof, a fixture that raised, a body's own assertion."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from ..common.errors import DiffspeedError
from ..common.paths import short_path
from ..common.text import first_line
from ..gates.causes import cause_of_error
from ..records.verdict import Cause

LONGEST = 1000
"""Characters of an error that a line about a test keeps."""


_PHASES = MappingProxyType(
    {
        "setup": ("set-up failed", "SETUP"),
        "call": ("the body failed", "TEST BODY"),
        "teardown": ("teardown failed", "TEARDOWN"),
    }
)
_AFTER_GATES = ("it failed beside its gates", "TEST FAILED")


def failure_beside_gates(
    report: pytest.TestReport,
    raised: pytest.ExceptionInfo[BaseException] | None,
    *,
    has_gates: bool,
    gates_ran: bool,
) -> dict[str, Any]:
    """What an outcome says of it: a sentence for records, and what is read in ten seconds.

    Whoever reads a report must see it there, as they would a gate's.  Our own messages are whole;
    of an exception of the user's pytest shows the traceback, and keeps doing so.
    """
    in_setup = report.when == "setup"
    is_after = gates_ran and report.when == "call"
    where, kind = _AFTER_GATES if is_after else _PHASES[str(report.when)]
    step = "see its traceback"
    if report.when == "teardown":
        step += "; what its gates found stands" if has_gates else ""
    elif has_gates and not gates_ran:
        step += "; its gates run once it ends"
    if raised is None:  # no exception: a strict xfail that passed, or a plug-in's own verdict
        text = first_line(report.longreprtext)[:LONGEST]
        cause = Cause(kind, text, "see its report: nothing was raised")
        return {"why_not_run": f"{where}: {text}", "cause": cause.as_dict()}
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
        step,
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

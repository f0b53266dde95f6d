"""Why a gate or a test is red and what to do next: the one source of all reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ..common.errors import DiffspeedError
from ..common.text import first_line
from ..records.reader import RecordedGate
from ..records.verdict import Cause, GateResult
from .terminal import describe, next_step

ALL_OF_IT = "-v has all of it"
_OF_TERMINAL = (ALL_OF_IT, DiffspeedError.NEXT_STEP)
"""Steps that say how to see more on a terminal; other reports show all."""


def kinds_of(causes: Iterable[Cause | None]) -> str:
    """A phrase for a line that has room for no more: ``GPU SYNC, IMAGES``."""
    return ", ".join(dict.fromkeys(cause.kind for cause in causes if cause is not None))


def cause_of(result: GateResult) -> Cause:
    """The cause that a result has, or one made of its reason: gates of plug-ins, older records."""
    if result.cause is not None:
        return result.cause
    found = "; ".join(part for part in (describe(result), first_line(result.reason)) if part)
    return Cause(result.gate, found, ALL_OF_IT)


def cause_of_gate(gate: RecordedGate) -> Cause:
    """The same of a gate that may have come to no end, or that failed for this tree before."""
    result = gate.result
    cause = cause_of(result)
    if not gate.finished and result.cause is None:
        kind = "STOPPED" if gate.error is None else "NOT CHECKED"
        cause = Cause(kind, first_line(result.reason), "run it again")
    if result.figures.get("remembered_from"):
        step = "change the tree; --diffspeed-fresh asks for another attempt on this one"
        cause = replace(cause, found=f"FAILed already for this tree: {cause.found}", next_step=step)
    return cause


def cause_of_test(line: Mapping[str, Any]) -> Cause:
    """Of a test that failed where no gate did: a proof, a fixture, its own body."""
    cause = Cause.from_dict(line.get("cause"))
    if cause is not None:
        return cause
    error = str(line.get("error") or "it failed after its gates")
    return Cause("TEST FAILED", first_line(error), "see its report with -v")


def step_of_gate(gate: RecordedGate) -> list[str]:
    """``next: …`` for a report that is no terminal; empty of a gate that asks for nothing."""
    verdict = gate.result.verdict
    is_quiet = verdict.value in ("PASS", "NOT_APPLICABLE") and not gate.result.blocking
    cause = cause_of_gate(gate)
    return [] if is_quiet or cause.next_step in _OF_TERMINAL else next_step(cause)

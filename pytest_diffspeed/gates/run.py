"""Run the gates of one test: all of them, whatever the first says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..common.errors import (
    DiffspeedError,
    MissingHardwareError,
    SelfComparisonError,
    UncountableError,
    UnexpectedError,
)
from ..records.verdict import GateResult, VerdictKind
from .causes import cause_of_error
from .gate import GateContext
from .marker import GateMarker
from .registry import gates
from .run_against_base import NO_BASE, check_against_base
from .selection import replaced, select

_NOT_APPLICABLE = (MissingHardwareError, SelfComparisonError, UncountableError)


def run_gates(
    markers: Sequence[GateMarker],
    context: GateContext,
    on_result: Callable[[GateResult], None],
    on_unexpected: Callable[[UnexpectedError], None] = lambda _: None,
) -> list[str]:
    """Check every marker; ``on_result`` is told each result as soon as it is there, and
    ``on_unexpected`` what raised that nobody meant to.

    Returns what went wrong where a gate could not be checked: such a gate fails its test, and the
    ones after it are checked all the same.
    """
    spec, device = context.candidate.spec, context.session.device
    holding, without = select(markers, spec.stack, device)
    context = replace(context, replaced=replaced(markers, holding, spec.stack, device))
    problems: list[str] = []

    def not_applicable(marker: GateMarker, claim: str, reason: str) -> None:
        none = VerdictKind.NOT_APPLICABLE
        on_result(context.publish(context.result(marker, none, reason, evidence=None, claim=claim)))

    for marker in without:
        reason = f"its markers are for another stack or device than {spec.stack} on {device.name}"
        not_applicable(marker, marker.claim, reason)

    def take(marker: GateMarker, claim: str, checked: GateResult | DiffspeedError) -> None:
        if isinstance(checked, GateResult):
            on_result(checked)
        elif isinstance(checked, _NOT_APPLICABLE):
            not_applicable(marker, claim, str(checked))
        else:
            context.session.journal.write(
                "gate-error",
                test=context.test,
                stack=spec.stack.name,
                claim=claim,
                axis=str(marker.axis),
                error=str(checked),
                cause=cause_of_error(checked).as_dict(),
            )
            problems.append(f"{claim} could not be checked: {checked}")
            if isinstance(checked, UnexpectedError):
                on_unexpected(checked)

    written = holding[::-1]  # as written, top to bottom
    asked = [marker for marker in written if not marker.is_against_base]
    # What is counted comes first, so that looking never runs between things that are timed.
    kinds = dict.fromkeys(gates()[type(marker)] for marker in asked)
    for gate in sorted(kinds, key=lambda gate: not gate.counts):
        own = [marker for marker in asked if gates()[type(marker)] is gate]
        for marker, checked in gate.check_all(own, context):
            take(marker, marker.claim, checked)
    if context.session.base is None:
        for marker in written:
            if marker.is_against_base:
                not_applicable(marker, marker.claim, NO_BASE)
    else:
        for claim, checked in check_against_base(written, context):
            take(claim.marker, claim.claim, checked)
    return problems

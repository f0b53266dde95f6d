"""Run the gates of one test: all of them, whatever the first says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..common.errors import (
    DiffspeedError,
    MissingHardwareError,
    SelfComparisonError,
    UncountableError,
)
from ..records.verdict import GateResult, VerdictKind
from .against_base.choice import NO_BASE, check_against_base, is_against_base
from .gate import GateContext
from .marker import GateMarker
from .registry import gates
from .selection import select

_NOT_APPLICABLE = (MissingHardwareError, SelfComparisonError, UncountableError)


def run_gates(
    markers: Sequence[GateMarker],
    context: GateContext,
    on_result: Callable[[GateResult], None],
) -> list[str]:
    """Check every marker; ``on_result`` is told each result as soon as it is there.

    Returns what went wrong where a gate could not be checked: such a gate fails its test, and the
    ones after it are checked all the same.
    """
    spec, device = context.candidate.spec, context.session.device
    holding, without = select(markers, spec.stack, device)
    problems: list[str] = []

    def not_applicable(gate: str, claim: str, reason: str) -> None:
        result = GateResult(
            gate=gate,
            claim=claim,
            test=context.test,
            stack=spec.stack.name,
            verdict=VerdictKind.NOT_APPLICABLE,
            reason=reason,
            evidence=None,
            blocking=False,
        )
        context.session.journal.write("gate", **result.as_dict())
        on_result(result)

    for marker in without:
        reason = f"its markers are for another stack or device than {spec.stack} on {device.name}"
        not_applicable(marker.marker, marker.claim, reason)

    def take(gate: str, claim: str, checked: GateResult | DiffspeedError) -> None:
        if isinstance(checked, GateResult):
            on_result(checked)
        elif isinstance(checked, _NOT_APPLICABLE):
            not_applicable(gate, claim, str(checked))
        else:
            context.session.journal.write(
                "gate-error",
                test=context.test,
                stack=spec.stack.name,
                claim=claim,
                error=str(checked),
            )
            problems.append(f"{claim} could not be checked: {checked}")

    written = holding[::-1]  # as written, top to bottom
    asked = [marker for marker in written if not is_against_base(marker)]
    # What is counted comes first, so that looking never runs between things that are timed.
    kinds = dict.fromkeys(gates()[type(marker)] for marker in asked)
    for gate in sorted(kinds, key=lambda gate: not gate.counts):
        own = [marker for marker in asked if gates()[type(marker)] is gate]
        for marker, checked in gate.check_all(own, context):
            take(marker.marker, marker.claim, checked)
    if context.session.base is None:
        for marker in written:
            if is_against_base(marker):
                not_applicable(marker.marker, marker.claim, NO_BASE)
    else:
        for check in check_against_base(written, context):
            take(check.gate, check.claim, check.checked)
    return problems

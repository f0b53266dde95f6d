"""One gate on a ratio, from what was asked to what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...arms.spec import ArmSpec
from ...common.errors import SelfComparisonError, UsageError
from ...records.verdict import GateResult
from ...techniques.stacks import PREVIOUS, Stack, meant_by
from ...techniques.technique import Family
from ..gate import GateContext
from .evidence_key import attempt_of
from .marker import WHOLE_CALL, SpeedMarker

_STEP = "step"
"""The unit of single steps: the others are whole calls, and components in them or alone."""

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...evidence.verdict_store import Attempt, Instance
    from ...timing.rounds import Pair


@dataclass
class PendingGate:
    """One gate that is to be measured, and what came of it."""

    marker: SpeedMarker
    over: Stack
    baseline: PreparedArm | None
    """``None``: it is built in worker processes only."""
    attempt: Attempt
    instance: Instance | None = None
    counted: list[Pair] = field(default_factory=list)
    result: GateResult | None = None


def ask(marker: SpeedMarker, context: GateContext) -> PendingGate | GateResult:
    """The gate with the arm that it compares with; the FAIL that it ended with already."""
    candidate = context.candidate
    stack = candidate.spec.stack
    over = context.previous if marker.over == PREVIOUS else meant_by(marker.over, stack)
    if over == stack:
        raise SelfComparisonError(f"it would compare {over} with itself")
    _require_same_steps(marker, stack, over)
    _require_like_steps(marker, stack, over)
    attempt = attempt_of(marker, context, over)
    if attempt.verdict is not None:
        return attempt.verdict
    baseline = context.session.arms.other(ArmSpec(candidate.spec.source, over))
    for arm in (baseline, candidate):
        arm.require_unchanged()
    return PendingGate(marker, over, baseline, attempt)


def _require_same_steps(marker: SpeedMarker, stack: Stack, over: Stack) -> None:
    """Raises: UsageError: what tells the two apart is in no pair of the marker's unit."""
    if marker.unit == WHOLE_CALL or stack.call_steps == over.call_steps:
        return
    raise UsageError(
        f"unit={marker.unit!r}: {stack} and {over} differ in how many steps a call has, and a pair "
        f"of {marker.unit!r} is the same in both; time whole calls, unit='call'"
    )


def _require_like_steps(marker: SpeedMarker, stack: Stack, over: Stack) -> None:
    """Raises: UsageError: the steps of a call differ by what a cache leaves out of them."""
    caches = [t for one in (stack, over) for t in one.techniques() if t.family is Family.CACHE]
    if marker.unit == _STEP and caches:
        raise UsageError(
            f"unit={marker.unit!r}: {caches[0].text} leaves work out of some steps and not of "
            "others, so that no step stands for those of a call; time whole calls, unit='call'"
        )

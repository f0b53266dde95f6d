"""One gate on a ratio, from what was asked to what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...arms.spec import ArmSpec
from ...common.errors import SelfComparisonError
from ...records.verdict import GateResult
from ...techniques.stacks import PREVIOUS, Stack
from ..gate import GateContext
from .evidence_key import attempt_of
from .marker import SpeedMarker

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
    over = context.previous if marker.over == PREVIOUS else marker.over
    if over == candidate.spec.stack:
        raise SelfComparisonError(f"it would compare {over} with itself")
    attempt = attempt_of(marker, context, over)
    if attempt.verdict is not None:
        return attempt.verdict
    baseline = context.session.arms.other(ArmSpec(candidate.spec.source, over))
    for arm in (baseline, candidate):
        arm.require_unchanged()
    return PendingGate(marker, over, baseline, attempt)

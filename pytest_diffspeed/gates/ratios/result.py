"""What a measured ratio is as a gate's result: its figures, and whether it blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...records.verdict import (
    HIGHER,
    RATIO,
    SECONDS,
    EvidenceKind,
    GateResult,
    Metric,
    VerdictKind,
)
from .cause import ratio_cause

if TYPE_CHECKING:
    from ...timing.comparison import SpeedupResult
    from ..gate import GateContext
    from .marker import SpeedMarker


def gate_result(
    marker: SpeedMarker,
    context: GateContext,
    over: str,
    measured: SpeedupResult,
    *,
    first_calls: tuple[float, float],
    floor: Mapping[str, Any],
    pairs_of: str,
    has_stages: bool,
) -> GateResult:
    """The result of ``marker``.

    Args:
        marker: what was asked.
        context: the test it was asked for.
        over: the stack that the candidate was compared with.
        measured: what the pairs showed.
        first_calls: seconds of the first call of both arms, compilation included.
        floor: figures of the baseline against itself.
        pairs_of: what was called for a pair.
        has_stages: whether the stages of a call are recorded beside it.
    """
    policy = context.session.options.inconclusive
    # Without a single new pair nothing was checked, and no policy makes that green.
    nothing_checked = measured.pairs == measured.earlier_pairs
    blocking = measured.verdict is VerdictKind.FAIL or (
        measured.verdict is VerdictKind.INCONCLUSIVE
        and ((policy or marker.policy) == "fail" or nothing_checked)
    )
    reason = measured.reason
    whatever_policy = blocking and nothing_checked and (policy or marker.policy) != "fail"
    if whatever_policy:
        reason += (
            f"; it fails although the policy is {policy or marker.policy!r}: no pair was timed"
        )
    return context.result(
        marker,
        measured.verdict,
        reason=reason,
        evidence=EvidenceKind.MEASURED,
        blocking=blocking,
        figures={
            "over": over,
            "unit": marker.unit,
            "pairs_of": pairs_of,
            "need": measured.min_ratio,
            "ratio": measured.ratio,
            "low": measured.low,
            "high": measured.high,
            "coverage": measured.coverage,
            "alpha": marker.alpha,
            "method": marker.method,
            "evidence_for_pass": measured.evidence_for_pass,
            "evidence_for_fail": measured.evidence_for_fail,
            "pairs": measured.pairs,
            "earlier_pairs": measured.earlier_pairs,
            "dropped_pairs": measured.dropped_pairs,
            "kept_disturbed_pairs": measured.kept_disturbed_pairs,
            "discard_warm_call": measured.discard_warm_call,
            "instances": measured.instances,
            "process_spread": measured.process_spread,
            "noise": measured.noise,
            **floor,
            "baseline_s": measured.baseline_s,
            "candidate_s": measured.candidate_s,
            "baseline_first_call_s": first_calls[0],
            "candidate_first_call_s": first_calls[1],
            "round_overhead_s": measured.round_overhead_s,
            "budget_s": measured.budget_s,
            "needed_budget_s": measured.needed_budget_s,
            "needed_instances": measured.needed_instances,
            "seed": measured.seed,
            "environment": context.session.environment(),
        },
        metrics=_metrics(measured, first_calls[1]) if measured.pairs else (),
        cause=ratio_cause(
            marker, over, measured, has_stages=has_stages, whatever_policy=whatever_policy
        ),
    )


def _metrics(measured: SpeedupResult, first_call_s: float) -> list[Metric]:
    """The ratio is followed over commits; seconds of two moments say nothing about a commit."""
    ends = {"low": measured.low, "high": measured.high}
    seconds = (
        ("baseline_s", measured.baseline_s),
        ("candidate_s", measured.candidate_s),
        ("candidate_first_call_s", first_call_s),
    )
    return [
        Metric("ratio", measured.ratio, "×", HIGHER, RATIO, False, "ratio", **ends),
        *(Metric(name, value, "s", kind=SECONDS, is_counted=False) for name, value in seconds),
    ]

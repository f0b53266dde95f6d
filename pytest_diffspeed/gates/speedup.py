"""``min_speedup`` and ``max_slowdown``: a paired ratio against a threshold."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import SelfComparisonError
from ..markers import GateMarker, MaxSlowdown, MinSpeedup, SpeedMarker
from ..specs import ArmSpec
from ..techniques.stacks import PREVIOUS
from ..verdict import Evidence, GateResult, VerdictKind
from .attempts import attempt_of
from .base import Gate, GateContext

if TYPE_CHECKING:
    from ..session import PreparedArm
    from ..timing.arm import WarmUp
    from ..timing.clock import Clock
    from ..timing.pairs import Pair
    from ..timing.speedup import SpeedupResult


class SpeedupGates(Gate):
    """Times pairs of pipeline calls, alone on the device, until the ratio is decided.

    What counts of a call is its unit: all of it, its steady steps, or one component.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MinSpeedup, MaxSlowdown)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ..timing.speedup import measure_speedup  # numpy: not at collection
        from ..timing.validity import conditions_of_this_machine

        assert isinstance(marker, SpeedMarker)
        session = context.session
        over = context.previous if marker.over == PREVIOUS else marker.over
        if over == context.candidate.spec.stack:
            raise SelfComparisonError(f"it would compare {over} with itself")
        attempt = attempt_of(marker, context, over)
        if attempt.verdict is not None:
            session.journal.write("gate", **attempt.verdict.as_dict())
            return attempt.verdict
        baseline = session.other(ArmSpec(context.candidate.spec.source, over))
        candidate = context.candidate
        baseline.require_unchanged()
        candidate.require_unchanged()
        seed = random.SystemRandom().randrange(2**32)
        journal = session.journal
        identity = {"test": context.test, "stack": candidate.spec.stack.name, "claim": marker.claim}

        def on_warm(first: WarmUp, second: WarmUp, budget_s: float) -> None:
            session.progress.line(
                f"timing {candidate.spec.stack} against {over}: "
                f"{second.steady_s:.3g} s against {first.steady_s:.3g} s a {marker.unit}, "
                f"at most {budget_s:.0f} s"
            )

        counted: list[Pair] = []

        def on_pair(pair: Pair) -> None:
            if pair.dropped is None:
                counted.append(pair)
            # A kind of its own, so that no reader counts it.
            kind = "pair" if pair.dropped is None else "dropped-pair"
            journal.write(kind, **identity, **vars(pair))
            ratio = pair.baseline_s / pair.candidate_s
            session.progress.transient(
                f"pair {pair.index + 1}: {ratio:.3f}×  ({candidate.spec.stack} over {over})"
            )

        first_calls = baseline.applied.first_call_s, candidate.applied.first_call_s
        journal.write(
            "gate-start",
            **identity,
            over=over.name,
            need=marker.min_ratio,
            seed=seed,
            device=vars(session.device),
            baseline_first_call_s=first_calls[0],
            candidate_first_call_s=first_calls[1],
        )
        instance = attempt.begin()
        with session.exclusive_device():
            measured = measure_speedup(
                baseline.arm_of(marker.unit),
                candidate.arm_of(marker.unit),
                min_ratio=marker.min_ratio,
                alpha=marker.alpha,
                method=marker.method,
                budget_s=session.options.budget_s,
                clock=session.clock,
                seed=seed,
                conditions=conditions_of_this_machine(session.device.kind),
                on_warm=on_warm,
                on_pair=on_pair,
            )
            found = _gate_result(
                marker, context, over.name, measured, first_calls, session.options.inconclusive
            )
            result = instance.end(found)
            journal.write("gate", **result.as_dict())
            if measured.pairs:  # only now: the verdict is written, whatever these calls do
                stages = _stages(baseline, candidate, session.clock)
                result.figures["stages"] = stages
                journal.write("stages", **identity, stages=stages)
        times = (
            (over.name, [pair.baseline_s for pair in counted]),
            (candidate.spec.stack.name, [pair.candidate_s for pair in counted]),
        )
        for listener in session.arm_listeners if counted else ():
            for arm, seconds in times:
                try:
                    listener(context.test, marker.claim, arm, seconds, result.figures)
                except Exception as error:  # somebody else's table must not cost a verdict
                    session.progress.line(f"{listener} failed: {type(error).__name__}: {error}")
        return result


def _gate_result(
    marker: SpeedMarker,
    context: GateContext,
    over: str,
    measured: SpeedupResult,
    first_calls: tuple[float, float],
    policy: str | None,
) -> GateResult:
    own_policy = "fail" if isinstance(marker, MinSpeedup) else "warn"
    # Without a single pair nothing was checked, and no policy makes that green.
    inconclusive_blocks = (policy or own_policy) == "fail" or measured.pairs == 0
    blocking = measured.verdict is VerdictKind.FAIL or (
        measured.verdict is VerdictKind.INCONCLUSIVE and inconclusive_blocks
    )
    return GateResult(
        gate=marker.marker,
        claim=marker.claim,
        test=context.test,
        stack=context.candidate.spec.stack.name,
        verdict=measured.verdict,
        reason=measured.reason,
        evidence=Evidence.MEASURED,
        blocking=blocking,
        figures={
            "over": over,
            "unit": marker.unit,
            "need": measured.min_ratio,
            "ratio": measured.ratio,
            "low": measured.low,
            "high": measured.high,
            "coverage": measured.coverage,
            "alpha": marker.alpha,
            "evidence_for_pass": measured.evidence_for_pass,
            "evidence_for_fail": measured.evidence_for_fail,
            "pairs": measured.pairs,
            "dropped_pairs": measured.dropped_pairs,
            "kept_disturbed_pairs": measured.kept_disturbed_pairs,
            "discard_warm_call": measured.discard_warm_call,
            "instances": 1,
            "noise": measured.noise,
            "baseline_s": measured.baseline_s,
            "candidate_s": measured.candidate_s,
            "baseline_first_call_s": first_calls[0],
            "candidate_first_call_s": first_calls[1],
            "budget_s": measured.budget_s,
            "seed": measured.seed,
        },
    )


def _stages(baseline: PreparedArm, candidate: PreparedArm, clock: Clock) -> dict[str, Any] | None:
    """Stage times of one more call of each arm; watching them cannot touch the pairs any more.

    ``None`` where the clock times whole calls only.  The pairs have been paid for: a call that
    raises now says so in the place of its stages and costs the verdict nothing.
    """
    from ..timing.clock import StampClock

    if not isinstance(clock, StampClock):
        return None
    stages: dict[str, Any] = {}
    for name, prepared in (("baseline", baseline), ("candidate", candidate)):
        try:
            stages[name] = prepared.stage_times(clock).as_dict()
        except Exception as error:
            stages[name] = {"error": f"{type(error).__name__}: {error}"}
    return stages


GATES = (SpeedupGates(),)

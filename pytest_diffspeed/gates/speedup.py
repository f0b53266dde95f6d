"""``min_speedup`` and ``max_slowdown``: a paired ratio against a threshold."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, ClassVar

from ..markers import GateMarker, MaxSlowdown, MinSpeedup, SpeedMarker
from ..specs import ArmSpec
from ..techniques.stacks import PREVIOUS
from ..verdict import Evidence, GateResult, VerdictKind
from .base import Gate, GateContext

if TYPE_CHECKING:
    from ..timing.arm import WarmUp
    from ..timing.pairs import Pair
    from ..timing.speedup import SpeedupResult


class SpeedupGates(Gate):
    """Times pairs of whole pipeline calls, alone on the device, until the ratio is decided."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MinSpeedup, MaxSlowdown)

    def unavailable(self, marker: GateMarker) -> str | None:
        assert isinstance(marker, SpeedMarker)
        if marker.unit != "call":
            return f"unit={marker.unit!r} cannot be measured by this version, only unit='call'"
        return None

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ..timing.speedup import measure_speedup  # numpy: not at collection

        assert isinstance(marker, SpeedMarker)
        session = context.session
        over = context.previous if marker.over == PREVIOUS else marker.over
        baseline = session.other(ArmSpec(context.candidate.spec.source, over))
        candidate = context.candidate
        seed = random.SystemRandom().randrange(2**32)
        journal = session.journal
        identity = {"test": context.test, "stack": candidate.spec.stack.name, "claim": marker.claim}

        def on_warm(first: WarmUp, second: WarmUp, budget_s: float) -> None:
            session.progress.line(
                f"timing {candidate.spec.stack} against {over}: "
                f"{second.steady_s:.3g} s against {first.steady_s:.3g} s a call, "
                f"at most {budget_s:.0f} s"
            )

        def on_pair(pair: Pair) -> None:
            journal.write("pair", **identity, **vars(pair))
            ratio = pair.baseline_s / pair.candidate_s
            session.progress.transient(
                f"pair {pair.index + 1}: {ratio:.3f}×  ({candidate.spec.stack} over {over})"
            )

        journal.write(
            "gate-start", **identity, over=over.name, seed=seed, device=vars(session.device)
        )
        with session.exclusive_device():
            measured = measure_speedup(
                baseline.arm,
                candidate.arm,
                min_ratio=marker.min_ratio,
                alpha=marker.alpha,
                method=marker.method,
                budget_s=session.options.budget_s,
                clock=session.clock,
                seed=seed,
                on_warm=on_warm,
                on_pair=on_pair,
            )
        first_calls = baseline.applied.first_call_s, candidate.applied.first_call_s
        result = _gate_result(
            marker, context, over.name, measured, first_calls, session.options.inconclusive
        )
        journal.write("gate", **result.as_dict())
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
    inconclusive_blocks = (policy or own_policy) == "fail"
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
            "need": measured.min_ratio,
            "ratio": measured.ratio,
            "low": measured.low,
            "high": measured.high,
            "coverage": measured.coverage,
            "pairs": measured.pairs,
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


GATES = (SpeedupGates(),)

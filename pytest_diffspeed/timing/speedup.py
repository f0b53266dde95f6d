"""Measure a speedup: interleaved pairs of two arms, fed to the gate until it decides."""

from __future__ import annotations

import statistics as stdlib_statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..statistics import MIN_PAIRS, Decision, SpeedupGate
from ..verdict import VerdictKind
from .arm import Arm, WarmUp, check_same_outputs, warm_up
from .clock import Clock, WallClock
from .pairs import Pair, measure_pairs
from .validity import Condition, FullCollection, Validity

AUTO_BUDGET_S = 60.0
AUTO_PAIRS = 12


@dataclass(frozen=True)
class SpeedupResult:
    """What the pairs showed.

    ``ratio`` is baseline seconds ÷ candidate seconds, the median over pairs; ``low`` and ``high``
    bound it with the probability ``coverage``, whenever the measurement was stopped.  ``noise`` is
    the standard deviation of one pair's log ratio.  All are ``nan`` where there are no pairs.

    ``evidence_for_pass`` and ``evidence_for_fail`` are the gate's e-values at the end.

    ``pairs`` are those that count.  ``dropped_pairs`` began on a disturbed machine and do not;
    ``kept_disturbed_pairs`` did too and count, since no more may be dropped.
    """

    verdict: VerdictKind
    reason: str
    min_ratio: float
    ratio: float
    low: float
    high: float
    coverage: float
    pairs: int
    noise: float
    baseline_s: float
    candidate_s: float
    baseline_warm_up: WarmUp
    candidate_warm_up: WarmUp
    budget_s: float
    seed: int
    evidence_for_pass: float = 1.0
    evidence_for_fail: float = 1.0
    discard_warm_call: bool = False
    dropped_pairs: int = 0
    kept_disturbed_pairs: int = 0


def measure_speedup(
    baseline: Arm | Callable[[], object],
    candidate: Arm | Callable[[], object],
    *,
    min_ratio: float,
    alpha: float = 0.05,
    method: str = "sign",
    budget_s: float | None = 60.0,
    clock: Clock | None = None,
    seed: int = 0,
    discard_warm_call: bool = False,
    conditions: Sequence[Condition] = (),
    now: Callable[[], float] = time.perf_counter,
    on_warm: Callable[[WarmUp, WarmUp, float], None] = lambda *_: None,
    on_pair: Callable[[Pair], None] = lambda _: None,
) -> SpeedupResult:
    """Is ``candidate`` at least ``min_ratio`` times as fast as ``baseline``?

    Args:
        baseline, candidate: functions without arguments that do the same work.
        min_ratio: the threshold on the median of baseline seconds ÷ candidate seconds.
        alpha: the error rate of each verdict at the threshold.
        method: of the gate, see :class:`pytest_diffspeed.statistics.SpeedupGate`.
        budget_s: seconds for the pairs after warm-up; ``None`` means 60, or as many as 12 pairs
            need.
        clock: times one call; the CPU's clock if left out.
        seed: of the order in which the arms of a pair run.
        discard_warm_call: call an arm once off the clock before each timed call of it; for arms
            that disturb each other through caches, clocks or memory.  Twice the calls.
        conditions: asked before each pair whether the machine is disturbed, beside a full garbage
            collection; see :mod:`pytest_diffspeed.timing.validity`.
        now: a clock for the budget.
        on_warm, on_pair: told as it happens; a record is written there.  Pairs that do not count
            are told too.

    Raises:
        MeasurementError: an arm raised, its clock misbehaved, or the outputs differ in shape.
    """
    if budget_s is not None and not budget_s > 0.0:
        raise UsageError(f"budget_s must be positive, not {budget_s!r}")
    clock = clock or WallClock()
    baseline = baseline if isinstance(baseline, Arm) else Arm("baseline", baseline)
    candidate = candidate if isinstance(candidate, Arm) else Arm("candidate", candidate)
    gate = SpeedupGate(min_ratio, alpha=alpha, beta=alpha, method=method)
    warm = warm_up(baseline, clock), warm_up(candidate, clock)
    check_same_outputs(baseline, candidate)
    calls = 2 if discard_warm_call else 1
    pair_s = calls * (warm[0].steady_call_s + warm[1].steady_call_s)
    allowed_s = max(AUTO_BUDGET_S, AUTO_PAIRS * pair_s) if budget_s is None else budget_s
    on_warm(*warm, allowed_s)

    pairs: list[Pair] = []
    collections = FullCollection()
    validity = Validity((collections, *conditions))
    if allowed_s >= MIN_PAIRS * pair_s:
        with collections.watching():
            started = now()
            for pair in measure_pairs(
                baseline,
                candidate,
                clock,
                seed=seed,
                discard_warm_call=discard_warm_call,
                before_pair=validity.before_pair,
            ):
                on_pair(pair)
                if pair.dropped is None:
                    pairs.append(pair)
                    gate.update(pair.baseline_s, pair.candidate_s)
                if gate.decision is not None or (pairs and now() - started >= allowed_s):
                    break
    result = _result(gate, pairs, warm, pair_s, allowed_s, min_ratio, seed)
    return replace(
        result,
        reason="; ".join(filter(None, (result.reason, validity.remark))),
        discard_warm_call=discard_warm_call,
        dropped_pairs=validity.dropped,
        kept_disturbed_pairs=validity.kept_disturbed,
    )


def _result(
    gate: SpeedupGate,
    pairs: list[Pair],
    warm: tuple[WarmUp, WarmUp],
    pair_s: float,
    allowed_s: float,
    min_ratio: float,
    seed: int,
) -> SpeedupResult:
    nan = float("nan")
    estimate = gate.estimate() if pairs else None
    if estimate is None:
        reason = (
            f"a budget of {allowed_s:.3g} s holds {int(allowed_s / pair_s)} pairs of "
            f"{pair_s:.3g} s and no verdict is possible with fewer than {MIN_PAIRS}; "
            f"use --diffspeed-budget={_round_up(2 * MIN_PAIRS * pair_s)} or more"
        )
    else:
        reason = estimate.reason
    return SpeedupResult(
        verdict=_VERDICTS[gate.decision],
        reason=reason,
        min_ratio=min_ratio,
        ratio=estimate.ratio if estimate else nan,
        low=estimate.low if estimate else nan,
        high=estimate.high if estimate else nan,
        coverage=estimate.coverage if estimate else nan,
        pairs=len(pairs),
        noise=estimate.noise if estimate else nan,
        baseline_s=stdlib_statistics.median(p.baseline_s for p in pairs) if pairs else nan,
        candidate_s=stdlib_statistics.median(p.candidate_s for p in pairs) if pairs else nan,
        baseline_warm_up=warm[0],
        candidate_warm_up=warm[1],
        budget_s=allowed_s,
        seed=seed,
        evidence_for_pass=gate.evidence_for_pass,
        evidence_for_fail=gate.evidence_for_fail,
    )


_VERDICTS = {
    Decision.PASS: VerdictKind.PASS,
    Decision.FAIL: VerdictKind.FAIL,
    Decision.INCONCLUSIVE: VerdictKind.INCONCLUSIVE,
    None: VerdictKind.INCONCLUSIVE,
}


def _round_up(seconds: float) -> int:
    return int(seconds) + 1

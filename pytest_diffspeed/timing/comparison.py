"""One ratio to be decided: its question, the pairs so far, and what they show."""

from __future__ import annotations

import math
import statistics as stdlib_statistics
from dataclasses import dataclass

from ..common.text import plural
from ..records.verdict import VerdictKind
from ..statistics import MIN_PAIRS, Decision, SpeedupGate
from ..statistics.gate import fewest_pairs
from .budget import Projection, project, round_up
from .rounds import Pair
from .warm_up import WarmUp


@dataclass(frozen=True)
class Hypothesis:
    """Is arm ``candidate`` at least ``min_ratio`` times as fast as arm ``baseline``?

    Arms are numbered as they were given.  ``earlier`` are the pairs ``(baseline seconds, candidate
    seconds)`` of ``earlier_instances`` process instances that came to no verdict: the same gate
    goes on with them, so that running it again costs no error rate.  They add to what is timed now
    and never stand for it: see :class:`Comparison`.

    With a ``precision`` the pairs go on, whatever the verdict, until the ends of the interval are
    no further apart than this factor: for those who want the ratio.
    """

    min_ratio: float
    baseline: int = 0
    candidate: int = 1
    alpha: float = 0.05
    method: str = "sign"
    earlier: tuple[tuple[float, float], ...] = ()
    earlier_instances: int = 0
    precision: float | None = None


@dataclass(frozen=True)
class SpeedupResult:
    """What the pairs showed.

    ``ratio`` is baseline seconds ÷ candidate seconds, the median over pairs; ``low`` and ``high``
    bound it with the probability ``coverage``, whenever the measurement was stopped.  ``noise`` is
    the standard deviation of one pair's log ratio.  All are ``nan`` where there are no pairs.

    ``evidence_for_pass`` and ``evidence_for_fail`` are the gate's e-values at the end.

    ``pairs`` are those that count, ``earlier_pairs`` of them from earlier instances; ``instances``
    is the number of process instances that stand behind them.  ``dropped_pairs`` began on a
    disturbed machine and do not count; ``kept_disturbed_pairs`` did too and count, since no more
    may be dropped.  ``round_overhead_s`` is the median time of a round that no arm ran in.
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
    earlier_pairs: int = 0
    instances: int = 1
    round_overhead_s: float = math.nan
    needed_budget_s: int | None = None
    """Of a measurement without a verdict: the budget that its reason names."""

    def __str__(self) -> str:
        """The verdict with its interval, seconds of a call, and the reason."""
        need = f"need ≥ {self.min_ratio:.3g}×"
        if not self.pairs:
            return f"{self.verdict}: no pair was timed, {need}\n  {self.reason}"
        high = f"{self.high:.3f}" if math.isfinite(self.high) else "∞"
        noise = f", noise {100 * self.noise:.1f} % a pair" if math.isfinite(self.noise) else ""
        return (
            f"{self.verdict}: {self.ratio:.3f}× [{self.low:.3f}, {high}], {need}; "
            f"{plural(self.pairs, 'pair')}{noise}\n"
            f"  a call: baseline {self.baseline_s:.3g} s, candidate {self.candidate_s:.3g} s\n"
            f"  {self.reason}"
        )


class Comparison:
    """A question and its evidence.

    Earlier pairs come from a file.  So a PASS takes, beside the gate's, as many pairs timed now as
    the fewest that could decide, most of them above the threshold; and earlier pairs are left out
    where they would PASS by themselves, which those of a run without a verdict cannot, or where the
    pairs timed now show the contrary.  That makes a PASS rarer, and never likelier.
    """

    def __init__(self, question: Hypothesis) -> None:
        self.question = question
        self.pairs: list[tuple[float, float]] = list(question.earlier)
        self._instances: set[int] = set()
        self._earlier = len(question.earlier)
        self._remark = ""
        self._gate = self._new_gate()
        self._now = self._new_gate() if question.earlier else self._gate
        """The same gate, of the pairs that were timed now."""
        for seconds in self.pairs:
            self._gate.update(*seconds)
        if question.earlier and self._gate.decision is Decision.PASS:
            self._leave_out_earlier("which would PASS by themselves, as no undecided run's can")
        self._dropped = 0

    def _new_gate(self) -> SpeedupGate:
        asked = self.question
        return SpeedupGate(
            asked.min_ratio, alpha=asked.alpha, beta=asked.alpha, method=asked.method
        )

    def _leave_out_earlier(self, why: str) -> None:
        self._remark = f"left out: {self._earlier} pairs of earlier runs, {why}"
        self._gate = self._now
        del self.pairs[: self._earlier]
        self._earlier = 0

    @property
    def _earlier_instances(self) -> int:
        return self.question.earlier_instances if self._earlier else 0

    @property
    def arms(self) -> frozenset[int]:
        return frozenset((self.question.baseline, self.question.candidate))

    @property
    def _decision(self) -> Decision | None:
        decision = self._gate.decision
        return None if decision is Decision.PASS and self._is_too_early else decision

    @property
    def _is_too_early(self) -> bool:
        """Whether a PASS would rest on earlier pairs more than on those timed now."""
        if not self._earlier:
            return False
        ratios = [baseline / candidate for baseline, candidate in self.pairs[self._earlier :]]
        if len(ratios) < fewest_pairs(self.question.alpha):
            return True
        return stdlib_statistics.median(ratios) < self.question.min_ratio

    @property
    def is_decided(self) -> bool:
        return self._decision is not None

    @property
    def is_settled(self) -> bool:
        """Whether further pairs would tell nothing that was asked for."""
        if self.question.precision is None:
            return self.is_decided
        if len(self.pairs) < MIN_PAIRS:
            return False
        estimate = self._gate.estimate()
        return estimate.low > 0 and estimate.high <= estimate.low * self.question.precision

    def take(self, pair: Pair) -> None:
        if pair.dropped is not None:
            self._dropped += 1
            return
        self._instances.add(pair.instance)
        self.pairs.append((pair.baseline_s, pair.candidate_s))
        self._gate.update(pair.baseline_s, pair.candidate_s)
        if self._now is not self._gate:
            self._now.update(pair.baseline_s, pair.candidate_s)
            if (self._gate.decision, self._now.decision) == (Decision.PASS, Decision.FAIL):
                self._leave_out_earlier("which the pairs timed now contradict")

    def projection(
        self, warm: tuple[WarmUp, WarmUp], round_s: float, budget_s: float, noise: float
    ) -> Projection:
        """What the budget can be expected to show."""
        baseline, candidate = warm
        return project(
            min_ratio=self.question.min_ratio,
            ratio=baseline.steady_s / candidate.steady_s,
            noise=noise,
            pair_s=round_s,
            budget_s=budget_s,
            alpha=self.question.alpha,
            least_pairs=fewest_pairs(self.question.alpha),
            earlier_pairs=self._earlier,
        )

    def result(
        self,
        warm: tuple[WarmUp, WarmUp],
        *,
        projection: Projection,
        seed: int,
        discard_warm_call: bool = False,
        remark: str = "",
        kept_disturbed: int = 0,
        round_overhead_s: float = math.nan,
    ) -> SpeedupResult:
        """What the pairs so far show; ``remark`` is a further clause of the reason."""
        nan, pairs = math.nan, self.pairs
        estimate = self._gate.estimate() if pairs else None
        needed_s: int | None = None
        if projection.is_impossible and not self.is_decided:
            reason, needed_s = projection.sentence, projection.needed_budget_s
        else:
            assert estimate is not None, "a budget that holds pairs gave none"
            reason = estimate.reason
            if self._gate.decision is Decision.PASS and not self.is_decided:
                least = fewest_pairs(self.question.alpha)
                needed_s = round_up(2 * least * projection.pair_s)
                reason = (
                    f"the pairs of earlier runs would make it a PASS, which needs {least} timed "
                    f"now, most of them at or above {self.question.min_ratio:g}×, and found "
                    f"{len(pairs) - self._earlier}: "
                    f"--diffspeed-budget={needed_s}"
                )
            elif not self.is_decided and estimate.pairs_needed is not None:
                missing = estimate.pairs_needed - len(pairs)
                needed_s = round_up(projection.budget_s + missing * projection.pair_s)
                reason += f": --diffspeed-budget={needed_s}"
        return SpeedupResult(
            verdict=_VERDICTS[self._decision],
            reason="; ".join(filter(None, (reason, self._remark, remark))),
            min_ratio=self.question.min_ratio,
            ratio=estimate.ratio if estimate else nan,
            low=estimate.low if estimate else nan,
            high=estimate.high if estimate else nan,
            coverage=estimate.coverage if estimate else nan,
            pairs=len(pairs),
            noise=estimate.noise if estimate else nan,
            baseline_s=stdlib_statistics.median(b for b, _ in pairs) if pairs else nan,
            candidate_s=stdlib_statistics.median(c for _, c in pairs) if pairs else nan,
            baseline_warm_up=warm[0],
            candidate_warm_up=warm[1],
            budget_s=projection.budget_s,
            seed=seed,
            evidence_for_pass=self._gate.evidence_for_pass,
            evidence_for_fail=self._gate.evidence_for_fail,
            discard_warm_call=discard_warm_call,
            dropped_pairs=self._dropped,
            kept_disturbed_pairs=kept_disturbed,
            earlier_pairs=self._earlier,
            instances=len(self._instances) + self._earlier_instances or 1,
            round_overhead_s=round_overhead_s,
            needed_budget_s=needed_s,
        )


_VERDICTS = {
    Decision.PASS: VerdictKind.PASS,
    Decision.FAIL: VerdictKind.FAIL,
    Decision.INCONCLUSIVE: VerdictKind.INCONCLUSIVE,
    None: VerdictKind.INCONCLUSIVE,
}

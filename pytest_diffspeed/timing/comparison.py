"""One ratio to be decided: its question, the pairs so far, and what they show."""

from __future__ import annotations

import math
import statistics as stdlib_statistics
from dataclasses import dataclass

from ..records.verdict import VerdictKind
from ..reports.terminal import noise_of, ratio_and_pairs
from ..statistics import MIN_PAIRS, Decision, SpeedupEstimate, SpeedupGate
from ..statistics.gate import fewest_pairs
from ..statistics.methods import Method
from ..statistics.processes import (
    LEAST_PROCESSES,
    MOST_PROCESSES,
    ProcessSpread,
    spread_over_processes,
)
from ..statistics.sentence import percent, times
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
    method: Method = "sign"
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
    is the number of process instances that stand behind them.  Where three or more took turns,
    ``low`` and ``high`` hold for other processes too, and ``process_spread`` is the standard
    deviation between theirs, as log ratio; ``nan`` with fewer.  ``dropped_pairs`` began on a
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
    process_spread: float = math.nan
    needed_budget_s: int | None = None
    """Of a measurement without a verdict: the budget that its reason names."""
    needed_instances: int | None = None
    """The same: so many process instances that its reason names."""

    @property
    def _head(self) -> str:
        if not self.pairs:
            return f"{self.verdict}: no pair was timed, need ≥ {self.min_ratio:.3g}×"
        figures = {
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "need": self.min_ratio,
            "pairs": self.pairs,
        }
        noise = noise_of(self.noise) if math.isfinite(self.noise) else ""
        return f"{self.verdict}: {ratio_and_pairs(figures)}{noise}"

    def __repr__(self) -> str:
        return f"<SpeedupResult {self._head}>"

    def __str__(self) -> str:
        """The verdict with its interval, seconds of a call (measured), and the reason."""
        calls = f"  a call: baseline {self.baseline_s:.3g} s, candidate {self.candidate_s:.3g} s"
        return "\n".join([self._head, *([calls] if self.pairs else []), f"  {self.reason}"])


class Comparison:
    """A question and its evidence.

    Earlier pairs come from a file.  So a PASS takes, beside the gate's, as many pairs timed now as
    the fewest that could decide, most of them above the threshold; and earlier pairs are left out
    where they would PASS by themselves, which those of a run without a verdict cannot, or where the
    pairs timed now show the contrary.  That makes a PASS rarer, and never likelier.

    Three or more process instances are a sample of others: a verdict takes, beside the gate's, that
    the interval over them (:mod:`~pytest_diffspeed.statistics.processes`) lies on its side.
    """

    def __init__(self, question: Hypothesis, processes: int = 1) -> None:
        self.question = question
        self._is_sample = processes >= LEAST_PROCESSES
        self._processes: dict[int, list[float]] = {number: [] for number in range(processes)}
        """Log ratios of the pairs timed now, by process instance."""
        self.pairs: list[tuple[float, float]] = list(question.earlier)
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
        if decision is Decision.PASS and self._is_too_early:
            return None
        return None if self._processes_contradict(decision) else decision

    def _processes_contradict(self, decision: Decision | None) -> bool:
        """Whether other processes of such a spread might well show the contrary."""
        if not self._is_sample or decision is None:
            return False
        spread, threshold = self._spread(), math.log(self.question.min_ratio)
        if spread is None:
            return True
        return spread.low < threshold if decision is Decision.PASS else spread.high >= threshold

    def _spread(self) -> ProcessSpread | None:
        """Over the process instances; ``None`` until each has a pair, and for fewer than three."""
        if not self._is_sample or not all(self._processes.values()):
            return None
        medians = [stdlib_statistics.median(logs) for logs in self._processes.values()]
        return spread_over_processes(medians, self.question.alpha / 2)

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
        self.pairs.append((pair.baseline_s, pair.candidate_s))
        self._gate.update(pair.baseline_s, pair.candidate_s)  # refuses what is no time
        self._processes[pair.instance].append(math.log(pair.baseline_s / pair.candidate_s))
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
        spread = self._spread()
        low, high = self._ends(estimate, spread)
        needed_s: int | None = None
        needed_instances: int | None = None
        if projection.is_impossible and not self.is_decided:
            reason, needed_s = projection.sentence, projection.needed_budget_s
        else:
            assert estimate is not None, "a budget that holds pairs gave none"
            reason = estimate.reason
            if self._gate.decision is Decision.PASS and self._is_too_early:
                least = fewest_pairs(self.question.alpha)
                needed_s = round_up(2 * least * projection.pair_s)
                reason = (
                    f"the pairs of earlier runs would make it a PASS, which needs {least} timed "
                    f"now, most of them at or above {self.question.min_ratio:g}×, and found "
                    f"{len(pairs) - self._earlier}: "
                    f"--diffspeed-budget={needed_s}"
                )
            elif self._processes_contradict(self._gate.decision):
                reason, needed_instances = self._why_processes_contradict(spread)
            elif not self.is_decided and len(pairs) < (least := fewest_pairs(self.question.alpha)):
                # Fewer than the budget was to hold: they took longer than the warm-up said.
                needed_s = round_up(2 * max(least * projection.pair_s, projection.budget_s))
                reason += f": --diffspeed-budget={needed_s}"
            elif not self.is_decided and estimate.pairs_needed is not None:
                missing = estimate.pairs_needed - len(pairs)
                needed_s = round_up(projection.budget_s + missing * projection.pair_s)
                reason += f": --diffspeed-budget={needed_s}"
        return SpeedupResult(
            verdict=_VERDICTS[self._decision],
            reason="; ".join(filter(None, (reason, self._remark, remark))),
            min_ratio=self.question.min_ratio,
            ratio=estimate.ratio if estimate else nan,
            low=low,
            high=high,
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
            instances=sum(map(bool, self._processes.values())) + self._earlier_instances or 1,
            process_spread=nan if spread is None else spread.spread,
            round_overhead_s=round_overhead_s,
            needed_budget_s=needed_s,
            needed_instances=needed_instances,
        )

    @staticmethod
    def _ends(
        estimate: SpeedupEstimate | None, spread: ProcessSpread | None
    ) -> tuple[float, float]:
        """Of the interval: the gate's, widened by what lies between processes."""
        if estimate is None:
            return math.nan, math.nan
        if spread is None:
            return estimate.low, estimate.high
        return min(estimate.low, math.exp(spread.low)), max(estimate.high, math.exp(spread.high))

    def _why_processes_contradict(self, spread: ProcessSpread | None) -> tuple[str, int | None]:
        """Why the gate's decision does not hold, and how many process instances could tell."""
        if spread is None:
            return "a process instance has no pair that counts: measure on a quieter machine", None
        need, is_pass = self.question.min_ratio, self._gate.decision is Decision.PASS
        needed = spread.processes_needed(spread.mean - math.log(need))
        told = (
            f"these pairs are {'at least' if is_pass else 'below'} {times(need)}, but the "
            f"{spread.processes} process instances differ by {percent(spread.spread)}, so that "
            f"others may {'not be' if is_pass else 'reach it'}: "
        )
        if needed is None:
            return f"{told}too close to tell, even with {MOST_PROCESSES} instances", None
        return f"{told}--diffspeed-instances={needed}", needed


_VERDICTS = {
    Decision.PASS: VerdictKind.PASS,
    Decision.FAIL: VerdictKind.FAIL,
    Decision.INCONCLUSIVE: VerdictKind.INCONCLUSIVE,
    None: VerdictKind.INCONCLUSIVE,
}

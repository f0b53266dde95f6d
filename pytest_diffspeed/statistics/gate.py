"""The speedup gate: pairs in, a verdict out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from .bet import BetEvidence
from .decision import (
    Decision,
    SpeedupEstimate,
    check_seconds,
    min_ratio_for_slowdown,
)
from .eprocess import MIN_PAIRS, CriticalCount
from .methods import Method
from .noise import robust_sd
from .planning import pairs_to_finish, smallest_excess
from .sentence import explain
from .sign import SignEvidence


class EProcess(Protocol):
    """EProcess in both directions about ``x = log(ratio) - log(min_ratio)``."""

    wins: int
    losses: int

    @property
    def ties(self) -> int: ...
    @property
    def above(self) -> bool: ...
    @property
    def below(self) -> bool: ...
    def add(self, x: float) -> None: ...
    def bounds(self) -> tuple[float, float]: ...
    def e_above(self) -> float: ...
    def e_below(self) -> float: ...


METHODS: Final[dict[Method, Callable[[float, float], EProcess]]] = {
    "sign": SignEvidence,
    "bet": BetEvidence,
}


def _is_number(value: object) -> bool:
    """NumPy's count, and text that looks like one does not."""
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


class SpeedupGate:
    """Is the candidate at least ``min_ratio`` times as fast as the baseline?

    Give it timed pairs one at a time, and look after each: looking costs no error rate.

    - ``alpha`` bounds the probability of PASS, at any time, if the median ratio is at most
      ``min_ratio``; ``beta`` that of FAIL if it is at least ``min_ratio``. ``beta`` is not
      1 - power. ``planning.power`` gives the power.
    - ``max_pairs`` is the budget: the gate answers INCONCLUSIVE after that many pairs. It may be
      chosen, and changed, by anything that is not the pairs' outcome, at no cost.
    - ``method="sign"`` (default) holds for the *median of the per-pair ratio*, whatever the
      tails of the arms. ``method="bet"`` has more power and another null: see ``bet``.

    PASS and FAIL are final. INCONCLUSIVE says that the budget is spent; further pairs continue
    the same evidence and may turn it into PASS or FAIL, never back. Pairs after PASS or FAIL
    still enter the estimate, the interval and the e-values, and ``reason`` says so if they point
    the other way.

    What the promise needs: given the past, ``x > 0`` has probability at most 1/2 at each pair if
    the ratio is at most ``min_ratio``. A coin for the order of each pair's two calls gives that
    whatever the machine does (spikes, drift, noisy neighbours, correlated noise), as long as it
    does it to both arms alike and not by what ran before. Orders that are balanced in blocks give
    the last of them away: in blocks of two the second pair's is known, and a machine that
    alternates from pair to pair makes 20 % false verdicts out of 5 %.

    Noise that *belongs to one arm* and lasts over many pairs (one process that
    is slow from its start to its end) breaks it, and no number of pairs in that process shows
    it: restart the arms. ``docs/statistics.md`` has the figures.

    Raises ValueError for a threshold, an error rate, a method or a ``max_pairs`` with which the
    gate could never work.
    """

    def __init__(
        self,
        min_ratio: float,
        alpha: float = 0.05,
        beta: float = 0.05,
        max_pairs: int | None = None,
        method: Method = "sign",
    ) -> None:
        if not (_is_number(min_ratio) and math.isfinite(min_ratio) and min_ratio > 0):
            raise ValueError(f"min_ratio must be a finite number above 0, not {min_ratio!r}")
        for name, rate in (("alpha", alpha), ("beta", beta)):
            if not (_is_number(rate) and 0 < rate < 0.5):
                raise ValueError(f"{name} must lie between 0 and 0.5, not {rate!r}")
        if method not in get_args(Method):
            raise ValueError(f"method must be one of {', '.join(get_args(Method))}, not {method!r}")
        least = fewest_pairs(min(alpha, beta))
        if max_pairs is not None and max_pairs < least:
            raise ValueError(
                f"max_pairs must be at least {least}, not {max_pairs!r}: "
                f"fewer pairs can give no verdict at alpha={alpha:g}, beta={beta:g}"
            )
        self.min_ratio = float(min_ratio)
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.max_pairs = max_pairs
        self.method = method
        self._log_min_ratio = math.log(min_ratio)
        self._evidence = METHODS[method](self.alpha, self.beta)
        self._xs: list[float] = []
        self._verdict: Decision | None = None  # PASS or FAIL, once and for all
        self._verdict_pairs = 0

    @classmethod
    def for_max_slowdown(
        cls,
        percent: float,
        alpha: float = 0.05,
        beta: float = 0.05,
        max_pairs: int | None = None,
        method: Method = "sign",
    ) -> SpeedupGate:
        """Return the gate for "at most ``percent`` % slower": see ``min_ratio_for_slowdown``."""
        return cls(min_ratio_for_slowdown(percent), alpha, beta, max_pairs, method)

    @property
    def pairs(self) -> int:
        """The pairs taken in, those after the verdict included."""
        return len(self._xs)

    @property
    def decision(self) -> Decision | None:
        """PASS, FAIL, INCONCLUSIVE once ``max_pairs`` are spent, or None: go on."""
        if self._verdict is None and self.max_pairs is not None and self.pairs >= self.max_pairs:
            return Decision.INCONCLUSIVE
        return self._verdict

    @property
    def evidence_for_pass(self) -> float:
        """The e-value against "the ratio is at most ``min_ratio``"; PASS needs 1/alpha once.

        It is today's value, not the highest so far: only that is an e-value.
        """
        return self._evidence.e_above()

    @property
    def evidence_for_fail(self) -> float:
        """The e-value against "the ratio is at least ``min_ratio``"; FAIL needs 1/beta once."""
        return self._evidence.e_below()

    def update(self, baseline_seconds: float, candidate_seconds: float) -> Decision | None:
        """Take in one pair and return the decision; None means go on.

        Raises BadTiming for a time that is NaN, infinite, zero or negative. Such a pair leaves
        the gate as it was.
        """
        number = self.pairs + 1
        baseline = check_seconds("baseline_seconds", baseline_seconds, number)
        candidate = check_seconds("candidate_seconds", candidate_seconds, number)
        x = math.log(baseline) - math.log(candidate) - self._log_min_ratio
        self._xs.append(x)
        self._evidence.add(x)
        if self._verdict is None and (self._evidence.above or self._evidence.below):
            self._verdict = Decision.PASS if self._evidence.above else Decision.FAIL
            self._verdict_pairs = self.pairs
        return self.decision

    def estimate(self) -> SpeedupEstimate:
        """Return ratio, interval, noise and a reason in one sentence; O(pairs log pairs)."""
        xs = np.array(self._xs)
        median = float(np.median(xs)) if self._xs else math.nan
        noise = robust_sd(xs)
        low, high = self._interval()
        excess = smallest_excess(self.pairs, self.alpha)
        shown = None
        if excess is not None:
            shown = self.min_ratio * math.exp(excess * noise)
        undecided = SpeedupEstimate(
            decision=self._verdict or Decision.INCONCLUSIVE,
            ratio=self._ratio_at(median),
            low=low,
            high=high,
            pairs=self.pairs,
            noise=noise,
            coverage=round(1 - self.alpha - self.beta, 12),
            smallest_ratio_shown=shown,
            pairs_needed=self._verdict_pairs or self._pairs_needed(),
            dependence=dependence(xs - median),
            reason="",
        )
        reason = explain(
            undecided,
            min_ratio=self.min_ratio,
            least_pairs=fewest_pairs(min(self.alpha, self.beta)),
            wins=self._evidence.wins,
            losses=self._evidence.losses,
            ties=self._evidence.ties,
            largest_ratio_failed=self._largest_ratio_failed(noise),
        )
        return replace(undecided, reason=reason)

    def _interval(self) -> tuple[float, float]:
        low, high = self._evidence.bounds()
        if low > high:  # both sides crossed: the ratio moved. What the verdict rests on stays
            if self._verdict is Decision.PASS:
                high = low
            else:
                low = high
        return self._ratio_at(low), self._ratio_at(high)

    def _ratio_at(self, x: float) -> float:
        """Return min_ratio * exp(x), on the side of min_ratio that x says despite rounding."""
        ratio = self.min_ratio * math.exp(min(x, 700.0)) if x != math.inf else math.inf
        if x < 0:
            return min(ratio, math.nextafter(self.min_ratio, 0.0))
        return ratio

    def _largest_ratio_failed(self, noise: float) -> float | None:
        excess = smallest_excess(self.pairs, self.beta)
        return None if excess is None else self.min_ratio * math.exp(-excess * noise)

    def _pairs_needed(self) -> int | None:
        if self.pairs < MIN_PAIRS:
            return None
        if self._evidence.wins >= self._evidence.losses:
            return pairs_to_finish(self._evidence.wins, self.pairs, self.alpha)
        return pairs_to_finish(self._evidence.losses, self.pairs, self.beta)


@lru_cache(maxsize=16)
def fewest_pairs(error: float) -> int:
    """Return how many unanimous pairs give a verdict at this error rate."""
    counter = CriticalCount(error)
    while counter.advance() > counter.pairs:
        pass
    return counter.pairs


def dependence(deviations: NDArray[np.float64]) -> float:
    """Return how much neighbouring pairs lie on the same side of the median, from -1 to 1.

    The mean product of neighbouring signs: 0 if the pairs are independent, near 1 if the ratio
    comes in long waves, which the promise of the gate does not cover. NaN below two pairs.
    """
    if deviations.size < 2:
        return math.nan
    signs = np.sign(deviations)
    return float(np.mean(signs[1:] * signs[:-1]))

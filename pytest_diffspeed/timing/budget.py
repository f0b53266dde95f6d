"""What a budget can show, told after warm-up and before the first pair.  Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..statistics import MIN_PAIRS
from ..statistics.planning import pairs_for_excess, smallest_excess

AUTO_BUDGET_S = 60.0
AUTO_PAIRS = 12


def allowed_seconds(
    budget_s: float | None, round_s: float, arms: int = 2, *, auto_s: float | None = None
) -> float:
    """Seconds that a block of rounds may take; ``round_s`` is the time of one round.

    ``None`` means ``auto_s`` (60 if left out), or as many as 12 rounds need.  Each arm beyond the
    second brings another ratio to be decided, and the budget of another gate.
    """
    if budget_s is None:
        auto_s = AUTO_BUDGET_S if auto_s is None else auto_s
        return max((arms - 1) * auto_s, AUTO_PAIRS * round_s)
    return (arms - 1) * budget_s


@dataclass(frozen=True)
class Projection:
    """What ``pairs`` pairs of ``pair_s`` seconds can show about a ratio.

    ``noise`` is the standard deviation of one pair's log ratio that was assumed (that of the
    baseline against itself), ``ratio`` the one that warm-up suggests.  ``needed_pairs`` decide that
    ratio four times in five; ``None`` where no number of them is known to.
    """

    min_ratio: float
    budget_s: float
    pair_s: float
    pairs: int
    least_pairs: int
    noise: float
    ratio: float
    shown: float | None
    needed_pairs: int | None
    earlier_pairs: int = 0

    @property
    def is_impossible(self) -> bool:
        """Whether no outcome whatever could give a verdict."""
        return self.pairs < self.least_pairs or self.pairs == self.earlier_pairs

    @property
    def is_enough(self) -> bool:
        """Whether a verdict is to be expected, as far as can be told before the first pair."""
        if self.is_impossible or self._is_short_of_new_ones:
            return False
        if math.isnan(self.noise) or self.noise <= 0:
            return True  # nothing speaks against it
        return self.needed_pairs is not None and self.needed_pairs <= self.pairs

    @property
    def _is_short_of_new_ones(self) -> bool:
        """Earlier pairs add to those timed now and stand for none of them."""
        return self.earlier_pairs > 0 and self.pairs - self.earlier_pairs < self.least_pairs

    @property
    def needed_budget_s(self) -> int | None:
        """Seconds that can be expected to give a verdict; ``None`` where none are known to."""
        if self.is_impossible or self._is_short_of_new_ones:
            return round_up(2 * self.least_pairs * self.pair_s)
        if self.needed_pairs is None:
            return None
        return round_up((self.needed_pairs - self.earlier_pairs) * self.pair_s)

    @property
    def sentence(self) -> str:
        """Why the budget is too small, and the one that is not; for one that is not enough."""
        new = self.pairs - self.earlier_pairs
        holds = (
            f"a budget of {self.budget_s:.3g} s holds {new} "
            f"pair{'' if new == 1 else 's'} of {self.pair_s:.3g} s"
        )
        if self.earlier_pairs:
            holds += f" beside {self.earlier_pairs} earlier ones"
        if self.is_impossible:
            return (
                f"{holds} and no verdict is possible with fewer than {self.least_pairs}; "
                f"use --diffspeed-budget={self.needed_budget_s} or more"
            )
        if self._is_short_of_new_ones:
            return (
                f"{holds}, and a PASS needs {self.least_pairs} that are timed now: "
                f"--diffspeed-budget={self.needed_budget_s}"
            )
        side = "≥" if self.ratio >= self.min_ratio else "<"
        could = "nothing yet" if self.shown is None else f"{side} {self.shown:.3g}×"
        holds += (
            f", which at {100 * self.noise:.2g} % noise a pair can be expected to show only {could}"
        )
        if self.needed_pairs is None:
            return f"{holds}; the {self.ratio:.3g}× of the warm-up are too close to the threshold"
        return (
            f"{holds}; the {self.ratio:.3g}× of the warm-up take about {self.needed_pairs} pairs: "
            f"--diffspeed-budget={self.needed_budget_s}"
        )


def project(
    *,
    min_ratio: float,
    ratio: float,
    noise: float,
    pair_s: float,
    budget_s: float,
    alpha: float = 0.05,
    least_pairs: int = MIN_PAIRS,
    earlier_pairs: int = 0,
) -> Projection:
    """Project a gate from what warm-up showed.

    Args:
        min_ratio: the threshold.
        ratio: baseline seconds ÷ candidate seconds of the warm-up's last calls.
        noise: standard deviation of one pair's log ratio, ``nan`` where it is not known.
        pair_s: seconds that one pair takes.
        budget_s: seconds that all pairs may take.
        alpha: the gate's error rate.
        least_pairs: fewest pairs with which it can give a verdict at all.
        earlier_pairs: pairs that the gate has already.
    """
    held = earlier_pairs + int(budget_s / pair_s)
    gap = math.log(ratio / min_ratio)
    shown = needed = None
    if noise > 0:  # not for nan
        excess = smallest_excess(held, alpha)
        if excess is not None:
            shown = min_ratio * math.exp(math.copysign(excess * noise, gap))
        needed = pairs_for_excess(round(abs(gap) / noise, 3), alpha)
    return Projection(
        min_ratio,
        budget_s,
        pair_s,
        held,
        least_pairs,
        noise,
        ratio,
        shown,
        needed,
        earlier_pairs,
    )


def round_up(seconds: float) -> int:
    return int(seconds) + 1

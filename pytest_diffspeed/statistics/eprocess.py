r"""The sign test as a game of bets: e-values, and the counts at which they decide.

**The game.** A sceptic who believes that the median of ``x`` is at most zero must accept, before
each pair, an even-money bet on ``x > 0``. Who stakes the fraction ``b`` of their wealth each time
holds, after ``n`` pairs with ``wins`` of them above zero,

.. math:: W_b = (1 + b)^{wins} (1 - b)^{n - wins}.

If :math:`P(x_t > 0 \mid \text{past}) \le 1/2` at each pair, :math:`W_b` is a non-negative
supermartingale that starts at 1, and so is the mixture

.. math:: E = \sum_k w_k W_{b_k}, \quad w_k \ge 0, \quad \sum_k w_k = 1.

By Ville's inequality :math:`P(\sup_n E_n \ge 1/\alpha) \le \alpha`: the promise holds *whenever*
one looks, however often, and whatever the budget turns out to be. ``E`` is an e-value at every
stopping time.

**Ties.** A tie (``x = 0``: a coarse clock, a candidate that is the baseline) counts as a loss for
*both* directions. Leaving ties out would test P(x > 0 | x != 0) <= 1/2, counting them as half a
win would test P(x > 0) <= P(x < 0), and neither follows from "the median is zero": with
P(+) = 0.48, P(0) = 0.40, P(-) = 0.12 the median is exactly zero, and both would pass almost
always. P(x > 0) <= 1/2 does follow, and P(x < 0) <= 1/2 for the other direction. The price
is power under a coarse clock, never the error rate.

**Bets.** The stakes are 14 points from 0.01 to 0.6 in geometric steps, with weights proportional
to the square of the stake, and 1: everything, which is lost at the first pair that is no win. That
one holds half of the purse, so that five pairs that agree are worth 20 and decide at 5 %; the
chance of them at the null is 1/32, and the other half decides the rest. A random order alone can
show nothing at 5 % in fewer pairs. Small stakes serve small gaps and many pairs. The grid was
chosen by the exact power of ``planning``. Against 16 points up to 0.95 without that last stake,
where six pairs were the least, it takes 5.0 pairs for 6.0 and 5.8 for 6.7 where the gap is 3 and 2
sd of a pair, 2 % more pairs at 0.5 sd, and 6 % more at 0.25 sd.

The chance of a false verdict is at most ``error`` at *all* numbers of pairs together, since all
stakes stand in one purse. (Deciding at five of five and else at 27.2 with the stakes up to 0.95
looks cheaper and is not valid: its exact rate passes 5 % at 4 302 pairs.)

Sources: J. Ville, *Etude critique de la notion de collectif*, 1939. H. Robbins, *Statistical
methods related to the law of the iterated logarithm*, Ann. Math. Statist. 1970 (mixtures).
A. Ramdas, P. Grunwald, V. Vovk, G. Shafer, *Game-theoretic statistics and safe anytime-valid
inference*, Statistical Science 2023. I. Waudby-Smith, A. Ramdas, *Estimating means of bounded
random variables by betting*, JRSS B 2024.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

MIN_PAIRS: Final = 5
"""No verdict before five pairs. At 5 % five unanimous ones are what any test needs that is valid by
the random order alone (1/32), and what these bets need; at higher error rates fewer would do."""

TIE_TOLERANCE: Final = 1e-9
"""Log ratios closer to the threshold than this are ties. Clock ticks that tie in exact arithmetic
(3 ticks to 2 at a threshold of 1.5) differ by rounding, some 1e-16, and would all fall on one
side. Any tolerance is valid, since ties count against both directions; one part in 1e9 is far
above rounding and far below what a clock resolves."""

ALL_IN_WEIGHT: Final = 0.515
"""The least, to three digits, with which five unanimous pairs are worth 20."""

_SMALLER_STAKES: Final[NDArray[np.float64]] = np.geomspace(0.01, 0.6, 14)
_SMALLER_WEIGHTS: Final[NDArray[np.float64]] = (
    (1 - ALL_IN_WEIGHT) * _SMALLER_STAKES**2 / (_SMALLER_STAKES**2).sum()
)
STAKES: Final[NDArray[np.float64]] = np.append(_SMALLER_STAKES, 1.0)
LOG_WEIGHTS: Final[NDArray[np.float64]] = np.log(np.append(_SMALLER_WEIGHTS, ALL_IN_WEIGHT))

_LOG_ALL_IN: Final = math.log(ALL_IN_WEIGHT)
_TERMS: Final[tuple[tuple[float, float, float], ...]] = tuple(
    zip(
        np.log(_SMALLER_WEIGHTS).tolist(),
        np.log1p(_SMALLER_STAKES).tolist(),
        np.log1p(-_SMALLER_STAKES).tolist(),
        strict=True,
    )
)
_LARGEST_LOG_E: Final = 690.0  # exp(690) = 1e299 is still a float; a smaller e-value is valid too


def log_sign_evidence(wins: float, losses: float) -> float:
    """Return log E after ``wins`` pairs above the threshold and ``losses`` on it or below."""
    logs = [w + wins * up + losses * down for w, up, down in _TERMS]
    if losses == 0:
        logs.append(_LOG_ALL_IN + wins * math.log(2))
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))


def e_value(log_evidence: float) -> float:
    """Return ``exp(log_evidence)``, cut off at 1e299, so that it stays a finite float."""
    return math.exp(min(log_evidence, _LARGEST_LOG_E))


class CriticalCount:
    """The fewest wins that decide, followed from pair to pair.

    ``count`` is the least ``wins`` with E(wins, pairs - wins) >= 1/error, and ``pairs + 1`` where
    no number of wins decides. E grows with each win and shrinks with each loss, so the count
    stays or grows by one from pair to pair, and one evaluation of E a pair is enough.
    """

    __slots__ = ("_log_threshold", "count", "pairs")

    def __init__(self, error: float) -> None:
        self._log_threshold = -math.log(error)
        self.pairs = 0
        self.count = 1

    def advance(self) -> int:
        """Go on to the next number of pairs and return its critical count."""
        self.pairs += 1
        if self.pairs < MIN_PAIRS:
            self.count = self.pairs + 1
        elif self.pairs == MIN_PAIRS:  # the first count that may decide: search from above
            self.count = self.pairs + 1
            while self.count > 0 and self._decides(self.count - 1):
                self.count -= 1
        elif not self._decides(self.count):
            self.count += 1
        return self.count

    def _decides(self, wins: int) -> bool:
        return log_sign_evidence(wins, self.pairs - wins) >= self._log_threshold


def critical_count(pairs: int, error: float) -> int:
    """Return the critical count after ``pairs`` pairs by itself, in O(log pairs) steps."""
    if pairs < MIN_PAIRS:
        return pairs + 1
    too_few, enough = 0, pairs + 1  # no wins never decide
    while enough - too_few > 1:
        wins = (too_few + enough) // 2
        if log_sign_evidence(wins, pairs - wins) >= -math.log(error):
            enough = wins
        else:
            too_few = wins
    return enough


def critical_counts(pairs: int, error: float) -> NDArray[np.int64]:
    """Return the critical count after 1, 2, ... ``pairs`` pairs."""
    counter = CriticalCount(error)
    return np.array([counter.advance() for _ in range(pairs)], dtype=np.int64)

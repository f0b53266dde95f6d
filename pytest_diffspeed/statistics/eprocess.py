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

**Bets.** The stakes are 16 points from 0.01 to 0.95 in geometric steps; ``w_k`` is proportional
to the stake. Small stakes serve small gaps and many pairs, large ones serve the clear cases, in
which a gate should end after six pairs. The grid was chosen by the exact power of ``planning``:
against a uniform prior on P(x > 0) it decides a gap of 2 sd in 6.7 pairs and not 7.7 on average,
and loses less than 2 % of the pairs elsewhere.

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

MIN_PAIRS: Final = 6
"""No verdict before six pairs. At 5 % six unanimous ones are what the bets need anyway."""

TIE_TOLERANCE: Final = 1e-9
"""Log ratios closer to the threshold than this are ties. Clock ticks that tie in exact arithmetic
(3 ticks to 2 at a threshold of 1.5) differ by rounding, some 1e-16, and would all fall on one
side. Any tolerance is valid, since ties count against both directions; one part in 1e9 is far
above rounding and far below what a clock resolves."""

STAKES: Final[NDArray[np.float64]] = np.geomspace(0.01, 0.95, 16)
LOG_WEIGHTS: Final[NDArray[np.float64]] = np.log(STAKES / STAKES.sum())

_TERMS: Final[tuple[tuple[float, float, float], ...]] = tuple(
    zip(LOG_WEIGHTS.tolist(), np.log1p(STAKES).tolist(), np.log1p(-STAKES).tolist(), strict=True)
)
_LARGEST_LOG_E: Final = 690.0  # exp(690) = 1e299 is still a float; a smaller e-value is valid too


def log_sign_evidence(wins: float, losses: float) -> float:
    """Return log E after ``wins`` pairs above the threshold and ``losses`` on it or below."""
    logs = [w + wins * up + losses * down for w, up, down in _TERMS]
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

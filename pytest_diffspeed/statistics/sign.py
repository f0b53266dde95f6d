"""Evidence from the signs of ``x``: valid for the median, whatever the tails."""

from __future__ import annotations

import math

from .eprocess import (
    TIE_TOLERANCE,
    CriticalCount,
    e_value,
    log_sign_evidence,
)
from .ranks import RankTracker


class SignEvidence:
    """Two sign e-processes on ``x = log(ratio) - log(min_ratio)``, and their inversion.

    *Above* bets against "the median of x is at most 0", *below* against "at least 0".

    The interval inverts the same two processes at every pair and keeps the running intersection.
    With ``c`` the critical count of ``alpha`` after ``n`` pairs, a threshold ``theta`` is passed
    exactly if at least ``c`` values lie ``TIE_TOLERANCE`` or more above it, that is, if
    ``theta <= (c-th largest value) - TIE_TOLERANCE``; ``low`` is the largest such bound seen so
    far, and ``high`` the mirror image. Hence ``low >= 0`` if and only if *above* has crossed
    1/alpha at some pair, and ``high < 0`` if and only if *below* has crossed 1/beta: without the
    running intersection the interval would forget verdicts that the gate keeps. By Ville's
    inequality it covers the median at all pairs together with probability 1 - alpha - beta.

    Work per pair: O(log n).
    """

    def __init__(self, alpha: float, beta: float) -> None:
        self.pairs = 0
        self.wins = 0
        self.losses = 0
        self.low = -math.inf
        self.high = math.inf
        self._count_above = CriticalCount(alpha)
        self._count_below = CriticalCount(beta)
        self._largest = RankTracker()
        self._smallest = RankTracker()

    @property
    def ties(self) -> int:
        return self.pairs - self.wins - self.losses

    @property
    def above(self) -> bool:
        """Whether the evidence that the median lies above 0 has ever crossed 1/alpha."""
        return self.low >= 0

    @property
    def below(self) -> bool:
        """Whether the evidence that the median lies below 0 has ever crossed 1/beta."""
        return self.high < 0

    def add(self, x: float) -> None:
        """Take in the next pair."""
        self.pairs += 1
        self.wins += x >= TIE_TOLERANCE
        self.losses += x < -TIE_TOLERANCE
        rank = self._count_above.advance()
        bound = self._largest.add(x, min(rank, self.pairs)) - TIE_TOLERANCE
        if rank <= self.pairs:
            self.low = max(self.low, bound)
        rank = self._count_below.advance()
        bound = TIE_TOLERANCE - self._smallest.add(-x, min(rank, self.pairs))
        if rank <= self.pairs:
            self.high = min(self.high, bound)

    def bounds(self) -> tuple[float, float]:
        """Return the running intersection; it is empty (low > high) if both sides crossed."""
        return self.low, self.high

    def e_above(self) -> float:
        """Return the e-value against "the median of x is at most 0", now (not its maximum)."""
        return e_value(log_sign_evidence(self.wins, self.pairs - self.wins))

    def e_below(self) -> float:
        """Return the e-value against "the median of x is at least 0", now (not its maximum)."""
        return e_value(log_sign_evidence(self.losses, self.pairs - self.losses))

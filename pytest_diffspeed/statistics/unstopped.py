"""The median of pairs as if nobody had stopped at them.

A gate stops when its pairs say PASS, and so more often at pairs that were lucky: the median of
those it took lies on the side of the verdict.  For one ratio that is nothing beside its interval;
in a chain of a hundred it adds up, and the interval grows with the square root only.

The first pairs are free of it: so many are taken whatever they say.  Their median, averaged over
all orders of the pairs in which the gate would have come to the same stop (Rao and Blackwell: what
is averaged stays unbiased), uses all pairs and no luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .eprocess import TIE_TOLERANCE, CriticalCount
from .gate import fewest_pairs


def unstopped_median(xs: Sequence[float], alpha: float, beta: float) -> float | None:
    """The median of ``xs``, without the luck of a sign gate that stopped at them.

    Args:
        xs: log(ratio) - log(min_ratio) of each pair, in the order of timing.
        alpha: the error rate of PASS.
        beta: that of FAIL.

    Returns:
        on the scale of ``xs``, from the pairs up to the verdict; without a verdict from all, since
        a budget does not look at them.  ``None`` for fewer pairs than give any verdict, and where
        there are ties, which the gate counts for neither side.
    """
    if any(abs(x) < TIE_TOLERANCE for x in xs):
        return None
    above, below = CriticalCount(alpha), CriticalCount(beta)
    least = fewest_pairs(max(alpha, beta))
    need = [(above.advance(), below.advance()) for _ in xs]
    wins = 0
    pairs = len(xs)
    for number, (x, (passed, failed)) in enumerate(zip(xs, need, strict=True), start=1):
        wins += x >= 0
        if wins >= passed or number - wins >= failed:
            pairs = number
            break
    if pairs < least:
        return None
    first = least - 1 + least % 2  # odd, so that one of them is the median
    won = np.sort([x for x in xs[:pairs] if x >= 0])
    lost = np.sort([x for x in xs[:pairs] if x < 0])
    chances = _ways(first, pairs, len(won), need)
    half = first // 2
    total = 0.0
    for number in range(first + 1):
        if chances[number]:
            # Losses lie below wins: the median of the first ones is one of those that are more.
            if number > half:
                middle = _mean_of_rank(won, number, number - half)
            else:
                middle = _mean_of_rank(lost, first - number, half + 1)
            total += float(chances[number]) * middle
    return total / float(chances.sum())


def _ways(
    first: int, pairs: int, wins: int, need: Sequence[tuple[int, int]]
) -> NDArray[np.float64]:
    """In how many orders the gate comes to its end, by the number of wins in the ``first`` pairs.

    Up to a factor.  An order that would have stopped before counts for nothing.
    """
    ways = np.zeros(pairs + 1)
    ways[wins] = 1.0
    numbers = np.arange(pairs + 1)
    for number in range(pairs - 1, first - 1, -1):
        passed, failed = need[number - 1]
        goes_on = (numbers < passed) & (number - numbers < failed)
        ways = np.where(goes_on, ways + np.append(ways[1:], 0.0), 0.0)
        ways /= ways.max()  # they grow as two to the power of pairs
    return np.array([math.comb(first, number) * ways[number] for number in range(first + 1)])


def _mean_of_rank(ordered: NDArray[np.float64], drawn: int, rank: int) -> float:
    """The expected ``rank``-th smallest of so many ``drawn`` from ``ordered``, each set alike."""
    many = len(ordered)
    weights = [
        math.comb(place, rank - 1) * math.comb(many - place - 1, drawn - rank)
        for place in range(many)
    ]
    every = math.comb(many, drawn)
    return math.fsum(w / every * x for w, x in zip(weights, ordered.tolist(), strict=True))

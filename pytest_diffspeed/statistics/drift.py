"""Slow change of a series against a fixed anchor, apart from its jumps.

Points are compared in pairs inside the stretches between jumps only, so a jump is no drift.  The
number of pairs that rise less those that fall (Mann 1945, Kendall 1948) tells whether there is any,
whatever the distribution of the noise; the median of the slopes of the same pairs (Theil 1950, Sen
1968) tells how much.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.001
"""The most that the probability of a drift that is none may be, for independent points."""
LEAST_POINTS = 10
"""The normal law is no guide to the tails of a handful of points."""
ANCHOR_POINTS = 8
"""The anchor is the median of so many points, one of them being too uncertain."""
_MOST = 400
"""Longer stretches are thinned evenly: pairs grow with the square."""


@dataclass(frozen=True)
class SlowChange:
    """``anchor`` and ``now`` are levels at the two ends; ``drifted`` is what slow change alone
    makes of their difference.  ``is_shown``: it is more than chance makes of the noise.
    ``could_be_shown``: so many points could have shown some, had all of them gone one way.
    """

    anchor: float
    now: float
    drifted: float
    p_value: float
    is_shown: bool
    could_be_shown: bool = True


def find_drift(
    values: Sequence[float], jumps: Sequence[int] = (), *, anchor: int = 0
) -> SlowChange | None:
    """The slow change from point ``anchor`` on; ``None`` with fewer than 2 points after it.

    Args:
        values: finite numbers in the order of their commits.
        jumps: indexes of first points of a new level.
        anchor: the point whose level, with up to seven after it, all else is held against.
    """
    array = np.asarray(values, dtype=np.float64)[anchor:]
    if len(array) < 2:
        return None
    ends = sorted({0, len(array), *(jump - anchor for jump in jumps if jump > anchor)})
    stretches = [np.arange(a, b) for a, b in pairwise(ends)]
    first = array[: min(ANCHOR_POINTS, ends[1])]
    last = array[max(ends[-2], len(array) - ANCHOR_POINTS) :]
    score, variance, slopes = 0.0, 0.0, []
    most, untied = 0.0, 0.0  # the same, had each point risen
    for stretch in stretches:
        kept = (
            stretch[np.unique(np.linspace(0, len(stretch) - 1, _MOST).astype(int))]
            if len(stretch) > _MOST
            else stretch
        )
        i, j = np.triu_indices(len(kept), 1)
        rises = array[kept[j]] - array[kept[i]]
        score += float(np.sign(rises).sum())
        variance += _variance(array[kept])
        most += len(rises)
        untied += _variance(np.arange(len(kept), dtype=np.float64))
        slopes.append(rises / (kept[j] - kept[i]))
    slope = float(np.median(np.concatenate(slopes))) if any(map(len, slopes)) else 0.0
    drifted = slope * (len(array) - 1)
    if not drifted:  # it has come to rest: most pairs are level
        drifted = sum(_rise(array[stretch]) for stretch in stretches)
    p_value = _p_value(score, variance)
    is_long = len(array) >= LEAST_POINTS
    return SlowChange(
        anchor=statistics.median(first.tolist()),
        now=statistics.median(last.tolist()),
        drifted=drifted,
        p_value=p_value,
        is_shown=p_value < ALPHA and drifted != 0 and is_long,
        could_be_shown=is_long and _p_value(most, untied) < ALPHA,
    )


def _p_value(score: float, variance: float) -> float:
    """Two-sided, by the normal law; less one, since the score moves in steps of two."""
    if variance <= 0:
        return 1.0
    return math.erfc(max(0.0, abs(score) - 1) / math.sqrt(2 * variance))


def _rise(values: NDArray[np.float64]) -> float:
    return float(np.median(values[-ANCHOR_POINTS:]) - np.median(values[:ANCHOR_POINTS]))


def _variance(values: NDArray[np.float64]) -> float:
    """Of the score of one stretch, with Kendall's correction for ties."""
    n = len(values)
    _, ties = np.unique(values, return_counts=True)
    tied = float((ties * (ties - 1) * (2 * ties + 5)).sum())
    return (n * (n - 1) * (2 * n + 5) - tied) / 18

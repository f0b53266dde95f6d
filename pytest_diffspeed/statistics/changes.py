"""Where a series jumped: offline change points with a bound on false alarms.

Measured series
    A window of up to 60 points before a place is compared with a window of up to 60 after it, in 49
    pairs of lengths, by the Wilcoxon-Mann-Whitney rank sum.  Its null distribution is exact and
    the same for every continuous noise, so heavy tails and outliers cost power and no false alarms,
    and no level of noise has to be estimated.  p-values are multiplied by the number of tests
    (Bonferroni): a series without change shows any with a probability of at most ``ALPHA``, if its
    points are independent.  Many tests overlap, so the true rate is lower still.  Between the
    places found it is looked again, since a level that lasts for few points hides from windows that
    reach beyond it.
    Where neighbours resemble each other (a machine that is warm for days, a season), n points say
    as much as n / f independent ones, and the logarithms of p-values are divided by that f
    (:mod:`.resemblance`).
    Places found are then moved to the split with the least sum of absolute deviations from the
    medians of its two sides, and dropped where a straight line explains the points around about as
    well as a step: that may be drift (:mod:`.drift`).

Cliffs
    Ranks need five points on each side.  Where fewer are there, a change is shown that is large
    beside all that was seen: three points at least on each side and eight together, whose intervals
    all lie apart, and whose values lie apart by 1.75 times the range of either side
    (:mod:`.cliffs`).

Counted series
    Have no noise: every difference between neighbours is a change.

Why not a library: ``ruptures`` (1.1.10) minimizes a cost plus a penalty that the user has to fit
to the noise. Its kernel cost, calibrated on Gaussian noise, is as good there and better at small
jumps in heavy tails; it calls every drift and nine of ten changes of the noise a jump, and finds
one in 21 % of flat series whose neighbours are correlated by 0.6. Apache Otava (0.8.0) promises a
rate by Student's t over windows: its default finds one in 89 % of those series, and at p < 1e-5 it
finds 6 % of jumps of 1.3 sd among outliers; it requires clients of BigQuery, Slack and PostgreSQL.
E-divisive promises a rate by permutations, hundreds for each series that a report shows; ranks
need none.

The rank sum: Mann & Whitney 1947, who give the recursion of the null distribution below.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappush, heappushpop
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .cliffs import cliffs
from .resemblance import inflation_of

ALPHA = 0.002
"""The most that the probability of any false change point in one measured series may be."""
LENGTHS = (5, 8, 12, 18, 27, 40, 60)
"""Of the windows on each side: about 1.5 times the one before."""
_BLOCK = 1024
"""So many places are looked at at once: memory stays at a few MB for any series."""
_LIKELIHOOD = 3.0
"""A fit that is e³ = 20 times more likely than another under Laplace noise is told from it: a step
from a line, and a place of a jump from the places beside it."""

SMALLEST = 1e-4
"""A relative difference below this is none: what repeats to the seventh digit may move in it."""
_MOST_DEVIATIONS = 6.0
"""No point counts for more than so many median deviations when a jump is placed: an outlier beside
it leaves the place open, and does not move it."""


@dataclass(frozen=True)
class Jump:
    """From ``index`` on the level is ``after``; it may have come anywhere from ``first`` to
    ``last``, which are indexes of first points of the new level as well.
    """

    index: int
    first: int
    last: int
    before: float
    after: float


def find_jumps(
    values: Sequence[float],
    *,
    is_counted: bool = False,
    lows: Sequence[float | None] | None = None,
    highs: Sequence[float | None] | None = None,
) -> list[Jump]:
    """The change points of a series in order.

    Args:
        values: finite numbers, one a session, in the order of their commits.
        is_counted: the numbers have no noise.
        lows, highs: the ends of each session's own interval; ``None``: it has none.
    """
    if is_counted:
        return [
            Jump(index, index, index, before, after)
            for index, (before, after) in enumerate(pairwise(values), start=1)
            if before != after
        ]
    array = np.asarray(values, dtype=np.float64)
    places = _moved(array, _told_from_waves(array))
    kept: list[int] = []
    for number, place in enumerate(places):
        left = kept[-1] if kept else 0
        right = places[number + 1] if number + 1 < len(places) else len(array)
        if not _is_drift(array[left:right], place - left):
            kept.append(place)
    steep = cliffs(array, _ends(array, lows), _ends(array, highs), kept)
    return [jump for jump in _jumps(array, kept, steep) if _has_size(jump)]


def _has_size(jump: Jump) -> bool:
    level = max(abs(jump.before), abs(jump.after))
    return abs(jump.after - jump.before) > SMALLEST * level


def _ends(array: NDArray[np.float64], ends: Sequence[float | None] | None) -> NDArray[np.float64]:
    """Ends of intervals; a point without one is an interval of its own."""
    if ends is None:
        return array
    known = [math.nan if end is None else end for end in ends]
    given = np.asarray(known, dtype=np.float64)
    return np.where(np.isnan(given), array, given)


def _told_from_waves(array: NDArray[np.float64]) -> list[int]:
    """The significant places; each false one hides some of what makes neighbours alike, so what
    is left after one look is looked at again.
    """
    inflation, places = 1.0, _places(array, 1.0)
    while places:
        more = inflation_of(array, places)
        if more <= inflation:
            break
        inflation = more
        fewer = _places(array, inflation)
        if fewer == places:
            break
        places = fewer
    return places


def _places(array: NDArray[np.float64], inflation: float) -> list[int]:
    """The significant places, and those between them."""
    found = _significant(array, inflation)
    looked_at: set[tuple[int, int]] = {(0, len(array))}
    while True:
        ends = [0, *found, len(array)]
        new = [
            before + place
            for before, after in pairwise(ends)
            if (before, after) not in looked_at
            for place in _significant(array[before:after], inflation)
            if not _is_drift(array[before:after], place)
        ]
        looked_at |= set(pairwise(ends))
        if not new:
            return found
        found = sorted({*found, *new})


def _significant(array: NDArray[np.float64], inflation: float) -> list[int]:
    """Places of the strongest rank sums, each with windows that hold none of the stronger ones."""
    tests = _tests(len(array))
    if not tests:
        return []
    level = np.log(ALPHA / sum(len(array) - left - right + 1 for left, right in tests))
    level *= inflation
    found: list[tuple[float, int, int, int]] = []
    for start in range(0, len(array), _BLOCK):
        low, high = max(0, start - LENGTHS[-1]), start + _BLOCK + LENGTHS[-1]
        block = _wins(array[low:high])
        for left, right in tests:
            first = max(start - low, left)
            last = min(start - low + _BLOCK, len(block) - right)
            places = np.arange(first, last)
            if not len(places):
                continue
            wins = (
                block[places, places + right]
                - block[places - left, places + right]
                - block[places, places]
                + block[places - left, places]
            )
            logs = _log_p(left, right)[np.minimum(wins, 2 * left * right - wins)]
            hits = np.flatnonzero(logs <= level)
            # Of equal evidence the longer windows: the short ones stand inside them.
            found += [(float(logs[i]), -left - right, int(places[i]) + low, left) for i in hits]
    found.sort()
    chosen: list[int] = []
    for _, length, place, left in found:
        right = -length - left
        if not any(place - left < other < place + right for other in chosen):
            chosen.append(place)
    return sorted(chosen)


@functools.cache
def _tests(count: int) -> list[tuple[int, int]]:
    """Pairs of window lengths that fit, and that could become significant at all."""
    fitting = [(a, b) for a in LENGTHS for b in LENGTHS if a + b <= count]
    while True:
        level = np.log(ALPHA / max(1, sum(count - a - b + 1 for a, b in fitting)))
        able = [(a, b) for a, b in fitting if _log_p(a, b)[0] <= level]
        if len(able) == len(fitting):
            return able
        # The least able first: without it the level rises for the others.
        worst = max(fitting, key=lambda pair: _log_p(*pair)[0])
        fitting = [pair for pair in fitting if pair != worst]


def _wins(array: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sums over a corner of the matrix "is point i below point j": 2 for yes, 1 for a tie."""
    below = array[:, None] < array[None, :]
    level = array[:, None] == array[None, :]
    sums = np.zeros((len(array) + 1, len(array) + 1), dtype=np.int64)
    np.cumsum(2 * below.astype(np.int8) + level, axis=0, dtype=np.int64, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return sums


@functools.cache
def _log_p(left: int, right: int) -> NDArray[np.float64]:
    """The logarithm of the two-sided p-value of each doubled rank sum up to its middle.

    Half sums come from ties only, and count as the next one towards the middle: ties make a rank
    sum less variable, so this errs to the safe side.
    """
    counts = _null(left, right)
    tail = np.cumsum(counts) / counts.sum()
    rounded = (np.arange(left * right + 1) + 1) // 2
    logs: NDArray[np.float64] = np.log(np.minimum(1.0, 2 * tail[rounded]))
    return logs


@functools.cache
def _null(left: int, right: int) -> NDArray[np.float64]:
    """How many of the orders of ``left`` + ``right`` points have each rank sum, 0 to left·right.

    Only sums of positive numbers: the smallest counts keep their precision.
    """
    rows = [np.ones(1)] * (right + 1)
    for a in range(1, left + 1):
        new = [np.ones(1)]
        for b in range(1, right + 1):
            sums = np.zeros(a * b + 1)
            sums[b:] = rows[b]  # the largest point is on the left: above all b
            sums[: a * (b - 1) + 1] += new[b - 1]  # or on the right
            new.append(sums)
        rows = new
    return rows[right]


def _moved(array: NDArray[np.float64], places: list[int]) -> list[int]:
    """Each place moved to the best split between its neighbours."""
    for _ in range(3):
        ends = [0, *places, len(array)]
        moved = []
        for before, place, after in zip(ends, places, ends[2:], strict=False):
            costs = _split_costs(array[before:after])
            moved.append(before + 1 + int(np.argmin(costs)) if len(costs) else place)
        if moved == places:
            break
        places = sorted(set(moved))
    return places


def _split_costs(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of absolute deviations from the medians of both sides, for splits before 1, 2, …."""
    return _prefix_costs(array)[:-1] + _prefix_costs(array[::-1])[::-1][1:]


def _prefix_costs(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each prefix, the sum of absolute deviations from its median: two heaps, O(n log n)."""
    low: list[float] = []  # negated: the lower half
    high: list[float] = []
    low_sum = high_sum = 0.0
    costs = np.empty(len(array))
    for index, value in enumerate(map(float, array)):
        if len(low) == len(high):
            moved = heappushpop(high, value)
            high_sum += value - moved
            heappush(low, -moved)
            low_sum += moved
        else:
            moved = -heappushpop(low, -value)
            low_sum += value - moved
            heappush(high, moved)
            high_sum += moved
        median = -low[0]
        costs[index] = median * len(low) - low_sum + high_sum - median * len(high)
    return costs


def _is_drift(array: NDArray[np.float64], place: int) -> bool:
    """Whether a step before ``place`` is not told from a straight line."""
    step = np.concatenate(
        [array[:place] - np.median(array[:place]), array[place:] - np.median(array[place:])]
    )
    x = np.arange(len(array), dtype=np.float64)
    thinned = np.unique(np.linspace(0, len(array) - 1, min(len(array), 200)).astype(int))
    pairs = np.triu_indices(len(thinned), 1)
    i, j = thinned[pairs[0]], thinned[pairs[1]]
    slope = np.median((array[j] - array[i]) / (x[j] - x[i]))  # Theil 1950, Sen 1968
    line = array - slope * x
    line_cost, step_cost = np.abs(line - np.median(line)).sum(), np.abs(step).sum()
    return bool(line_cost <= step_cost * (1 + _LIKELIHOOD / len(array)))


def _jumps(array: NDArray[np.float64], told: list[int], steep: list[int]) -> list[Jump]:
    """Jumps at the places ``told``, each moved a last time, now that the levels on both sides are
    known, and at ``steep`` ones, which leave no doubt where they are.
    """
    places = sorted({*told, *steep})
    ends = [0, *places, len(array)]
    jumps = []
    for before, place, after in zip(ends, places, ends[2:], strict=False):
        if place in steep:
            levels = float(np.median(array[before:place])), float(np.median(array[place:after]))
            jumps.append(Jump(place, place, place, *levels))
            continue
        part = array[before:after]
        at = place - before
        old, new = (np.abs(part - np.median(side)) for side in (part[:at], part[at:]))
        deviation = float(np.median(np.where(np.arange(len(part)) < place - before, old, new)))
        most = _MOST_DEVIATIONS * deviation if deviation else math.inf
        gain = np.minimum(old, most) - np.minimum(new, most)
        costs = np.cumsum(gain)[:-1]  # of a split after each point, up to a constant
        near = np.flatnonzero(costs <= costs.min() + _LIKELIHOOD * deviation)
        index = before + 1 + int(np.argmin(costs))
        jumps.append(
            Jump(
                index=index,
                first=before + 1 + int(near[0]),
                last=before + 1 + int(near[-1]),
                before=float(np.median(array[before:index])),
                after=float(np.median(array[index:after])),
            )
        )
    return jumps

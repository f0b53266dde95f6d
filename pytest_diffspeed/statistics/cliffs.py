"""Changes that few points show, because they are large beside all that was seen.

The rank sum of :mod:`.changes` needs five points on each side.  A series of eight commits, or a
regression that was fixed after three, has fewer.  There, what counts is how far all points of one
side lie from all of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

CLIFF = 1.75
"""Times the range of either side, and the median step of the series."""
CLIFF_FEW = 4
CLIFF_MANY = 8
"""So few points are on one side of a cliff and so many on the other; three and all others in a
series that is too short for windows."""


def cliffs(
    array: NDArray[np.float64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    places: Sequence[int],
) -> list[int]:
    """Indexes of first points of a new level, between ``places``, in order.

    Args:
        array: the values.
        lows, highs: the ends of each value's interval; the value itself where it has none.
        places: first points of levels that are known already.
    """
    steps = np.abs(np.diff(array))
    beside = np.concatenate([[0.0], steps, [0.0]])
    # A step beyond those beside it: the others need not be looked at.
    steep = np.flatnonzero((steps > 0) & (steps >= CLIFF * np.maximum(beside[:-2], beside[2:]))) + 1
    usual = float(np.median(steps)) if len(steps) else 0.0
    found = []
    for start, end in pairwise([0, *places, len(array)]):
        for place in steep[(steep > start) & (steep < end)].tolist():
            sides = _sides(place - start, end - place)
            if any(_are_apart(array, lows, highs, place, *side, usual) for side in sides):
                found.append(place)
    return found


def _sides(before: int, after: int) -> Iterator[tuple[int, int]]:
    """Numbers of points on both sides of a place that has so many."""
    if before >= CLIFF_MANY and after >= CLIFF_FEW:
        yield CLIFF_MANY, CLIFF_FEW
    if after >= CLIFF_MANY and before >= CLIFF_FEW:
        yield CLIFF_FEW, CLIFF_MANY
    if min(before, after) >= 3 and CLIFF_MANY <= before + after < 2 * CLIFF_MANY:
        yield before, after


def _are_apart(
    array: NDArray[np.float64],
    lows: NDArray[np.float64],
    highs: NDArray[np.float64],
    place: int,
    left: int,
    right: int,
    usual: float,
) -> bool:
    """Whether ``left`` points before a place and ``right`` after it are: see ``CLIFF``."""
    before, after = slice(place - left, place), slice(place, place + right)
    spread = max(np.ptp(array[before]), np.ptp(array[after]), usual)

    def gap(least: NDArray[np.float64], most: NDArray[np.float64]) -> float:
        return float(
            max(
                least[after].min() - most[before].max(),
                least[before].min() - most[after].max(),
            )
        )

    return gap(lows, highs) > 0 and gap(array, array) >= CLIFF * spread

"""How much the neighbours in a series resemble each other, and so how much it says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_LAGS = 8
"""Over how many points neighbours may resemble each other."""
_MOST_ALIKE = 0.9
_ERRORS = 3.0
"""Standard errors that are taken off: so much resemblance has to be clear.  With 3, jumps among
independent points are found as often as with no such rule; of flat series of 120 points 3 % show
one where neighbours are correlated by 0.6, with 4 it is 11 %."""
_CUT = 4.5
"""Median deviations, three standard deviations of Gaussian noise: an outlier is no neighbour."""


def inflation_of(array: NDArray[np.float64], places: Sequence[int]) -> float:
    """How many points say as much as one independent one; 1 unless more is clear.

    It is the variance of a mean, times the number of points, over that of a point, of the
    deviations from the levels between ``places``, large ones cut.  The larger of two estimates,
    each less three standard errors so that independent points are left alone:

    - one and twice the sum of the autocorrelations up to ``_LAGS``, weighted so that it cannot be
      negative (Newey & West 1987), which sees seasons;
    - (1 + r) / (1 - r) of the correlation r of neighbours, as if points forgot at a constant rate,
      with the bias of r in short stretches put back (Marriott & Pope 1954): false ``places`` hide
      less of that.
    """
    count = len(array)
    if count < 2 * _LAGS:
        return 1.0
    ends = [0, *places, count]
    deviations = np.concatenate(
        [array[before:after] - np.median(array[before:after]) for before, after in pairwise(ends)]
    )
    scale = float(np.median(np.abs(deviations)))
    if not scale:
        return 1.0
    deviations = np.clip(deviations, -_CUT * scale, _CUT * scale)
    deviations -= deviations.mean()
    weights = 1 - np.arange(1, _LAGS + 1) / (_LAGS + 1)
    products = [float(deviations[lag:] @ deviations[:-lag]) for lag in range(1, _LAGS + 1)]
    variance = float(deviations @ deviations)
    error = _ERRORS * 2 * math.sqrt(float(weights @ weights) / count)
    wave = 1 + 2 * float(weights @ products) / variance - error
    neighbours = products[0] / variance
    neighbours += (1 + 3 * neighbours) * (len(ends) - 1) / count - _ERRORS / math.sqrt(count)
    neighbours = min(max(neighbours, 0.0), _MOST_ALIKE)
    return max(1.0, wave, (1 + neighbours) / (1 - neighbours))

"""Exact bounds for a rate that was counted: how often can this really happen?"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np


def binomial_upper_bound(successes: int, trials: int, error: float = 0.05) -> float:
    """Return the one-sided upper bound of the probability behind ``successes`` of ``trials``.

    Every larger probability is rejected by the one-sided exact binomial test at level ``error``.

    Source: C. J. Clopper, E. S. Pearson, *The use of confidence or fiducial limits illustrated
    in the case of the binomial*, Biometrika 1934.
    """
    _check(successes, trials, error)
    if successes == trials:
        return 1.0
    return _bisect(lambda p: _at_most(successes, trials, p) > error)


def binomial_lower_bound(successes: int, trials: int, error: float = 0.05) -> float:
    """Return the one-sided lower bound, the mirror image of ``binomial_upper_bound``."""
    return 1.0 - binomial_upper_bound(trials - successes, trials, error)


def _check(successes: int, trials: int, error: float) -> None:
    if not (0 <= successes <= trials and trials > 0):
        raise ValueError(f"{successes!r} successes of {trials!r} trials make no sense")
    if not 0 < error < 1:
        raise ValueError(f"error must lie between 0 and 1, not {error!r}")


def _at_most(successes: int, trials: int, p: float) -> float:
    counts = np.arange(1, successes + 1)
    log_choose = np.concatenate(([0.0], np.cumsum(np.log((trials - counts + 1) / counts))))
    counts = np.arange(successes + 1)
    logs = log_choose + counts * math.log(p) + (trials - counts) * math.log1p(-p)
    top = float(logs.max())
    return math.exp(top) * float(np.exp(logs - top).sum())


def _bisect(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if is_below(middle):
            low = middle
        else:
            high = middle
    return high

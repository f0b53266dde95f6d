"""The noise of a machine, from timing the baseline against itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .decision import check_seconds
from .eprocess import TIE_TOLERANCE, critical_count

_SD_OF_MAD = 1.4826022185056018  # 1 / Phi^-1(3/4): makes the MAD of Gaussian noise its sd


def robust_sd(values: ArrayLike) -> float:
    """Return 1.4826 times the median absolute deviation from the median; NaN below two values.

    Where more than half of the values are equal (coarse clock ticks) that is zero, and the
    ordinary standard deviation is returned in its place.

    Source: F. R. Hampel, *The influence curve and its role in robust estimation*, JASA 1974.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2:
        return math.nan
    sd = _SD_OF_MAD * float(np.median(np.abs(array - np.median(array))))
    return sd if sd > 0 else float(array.std(ddof=1))


@dataclass(frozen=True)
class NoiseFloor:
    """What timing the same thing twice shows; see ``noise_floor``."""

    pairs: int
    noise: float
    """Robust standard deviation of one pair's log ratio; NaN below two pairs."""
    order_bias: float
    """Median of log(later / earlier): 0.02 means that the later call of a pair takes 2 %
    longer; NaN without pairs."""
    low: float
    """Lower end of the interval for the order bias; -inf below seven pairs at 5 %."""
    high: float
    """Upper end of the interval for the order bias; inf below seven pairs at 5 %."""
    coverage: float
    """Coverage of that interval, at all numbers of pairs together."""

    @property
    def is_biased(self) -> bool:
        """Whether the interval excludes "the order makes no difference"."""
        return self.low >= 0 or self.high < 0


def noise_floor(pairs: Iterable[tuple[float, float]], error: float = 0.05) -> NoiseFloor:
    """Return the noise and the order bias of baseline-against-baseline pairs.

    ``pairs`` holds ``(earlier_seconds, later_seconds)``: two calls of the *same* arm, in the
    order in which they ran. The interval for the order bias inverts the sign e-processes of the
    gate, half of ``error`` on each side, so it may be looked at after each pair. It is the one
    after the last pair, not the running intersection: no verdict hangs on it, and it always
    holds the median that stands beside it.
    """
    if not 0 < error < 1:
        raise ValueError(f"error must lie between 0 and 1, not {error!r}")
    logs: list[float] = []
    for number, (earlier, later) in enumerate(pairs, start=1):
        earlier_log = math.log(check_seconds("earlier_seconds", earlier, number))
        later_log = math.log(check_seconds("later_seconds", later, number))
        logs.append(later_log - earlier_log)
    low, high = -math.inf, math.inf
    rank = critical_count(len(logs), error / 2)
    if rank <= len(logs):
        ordered = sorted(logs)
        low, high = ordered[-rank] - TIE_TOLERANCE, ordered[rank - 1] + TIE_TOLERANCE
    return NoiseFloor(
        pairs=len(logs),
        noise=robust_sd(logs),
        order_bias=float(np.median(logs)) if logs else math.nan,
        low=low,
        high=high,
        coverage=1 - error,
    )

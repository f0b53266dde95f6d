"""What differs between processes for good: the interval of a ratio over process instances.

Two processes that run the same code can differ by a per cent or two (memory layout, tuning), and no
number of pairs within them shows it.  So each pair of processes counts once, by the median of its
pairs, and the ratio lies where Student's t puts it: the mean of these medians, give or take what
they differ by.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

LEAST_PROCESSES = 3
"""Fewer tell too little of what others would do: with two, Student's t is 12.7 standard errors."""

MOST_PROCESSES = 16
"""As many as one gate can have."""


@dataclass(frozen=True)
class ProcessSpread:
    """The log ratio over process instances.

    ``low`` and ``high`` bound it, each with the probability of error that was asked for; ``spread``
    is the standard deviation between processes, noise of their pairs included; ``processes`` counts
    the pairs of processes.
    """

    mean: float
    spread: float
    processes: int
    error: float

    @property
    def low(self) -> float:
        return self.mean - self._reach(self.processes)

    @property
    def high(self) -> float:
        return self.mean + self._reach(self.processes)

    def _reach(self, processes: int) -> float:
        return student_quantile(processes - 1, 1 - self.error) * self.spread / math.sqrt(processes)

    def processes_needed(self, excess: float) -> int | None:
        """So many processes of this spread would tell ``mean`` from what lies ``excess`` below or
        above it; ``None`` where :data:`MOST_PROCESSES` would not.
        """
        counts = range(self.processes, MOST_PROCESSES + 1)
        enough = (count for count in counts if self._reach(count) < abs(excess))
        return next(enough, None)


def spread_over_processes(medians: Sequence[float], error: float) -> ProcessSpread:
    """The mean log ratio with what ``medians`` of processes say of other processes.

    Exact where the medians are normal and looked at once.  A gate looks after each turn of its
    processes, so it asks for half its error rate: docs/statistics.md shows what comes of it.

    Args:
        medians: of the log ratios of each pair of processes; at least :data:`LEAST_PROCESSES`.
        error: the probability that ``low`` lies too high, and that ``high`` lies too low.

    Raises:
        ValueError: fewer medians, or an error rate that is none.
    """
    if len(medians) < LEAST_PROCESSES:
        raise ValueError(f"{len(medians)} processes: at least {LEAST_PROCESSES} tell of others")
    if not 0 < error < 0.5:
        raise ValueError(f"error must lie between 0 and 0.5, not {error!r}")
    return ProcessSpread(
        statistics.fmean(medians), statistics.stdev(medians), len(medians), float(error)
    )


@lru_cache(maxsize=256)
def student_quantile(freedom: int, probability: float) -> float:
    """Return the quantile of Student's t with ``freedom`` degrees, a whole number above 0.

    By bisection of the closed form of its distribution: M. Abramowitz, I. A. Stegun, *Handbook of
    Mathematical Functions*, 26.7.3 and 26.7.4.
    """
    if freedom < 1 or not 0 < probability < 1:
        raise ValueError(f"no quantile {probability!r} of Student's t with {freedom!r} degrees")
    if probability < 0.5:
        return -student_quantile(freedom, 1 - probability)
    # An angle between 0 and pi/2 is bisected: no quantile is too large for it.
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if (1 + _within(middle, freedom)) / 2 < probability:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: int) -> float:
    """P(-t < T < t) for ``t = sqrt(freedom) * tan(angle)``."""
    cos2, term, total = math.cos(angle) ** 2, 1.0, 1.0
    if freedom % 2:
        if freedom == 1:
            return 2 * angle / math.pi
        for n in range(3, freedom - 1, 2):
            term *= (n - 1) / n * cos2
            total += term
        return 2 / math.pi * (angle + math.sin(angle) * math.cos(angle) * total)
    for n in range(2, freedom - 1, 2):
        term *= (n - 1) / n * cos2
        total += term
    return math.sin(angle) * total

"""What a gate answers, and the checks on what it is given."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum


class Decision(str, Enum):
    """The answer of a speedup gate."""

    PASS = "PASS"
    """The candidate was shown to be at least ``min_ratio`` times as fast as the baseline."""
    FAIL = "FAIL"
    """It was shown not to be."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """The pairs so far show neither."""

    def __str__(self) -> str:
        return self.value


class BadTiming(ValueError):
    """A time that no clock can have measured: NaN, infinite, zero or negative."""


@dataclass(frozen=True)
class SpeedupEstimate:
    """What the pairs so far say about the ratio; see ``SpeedupGate.estimate``.

    ``decision is PASS`` exactly when ``low >= min_ratio``, and ``FAIL`` exactly when
    ``high < min_ratio``.
    """

    decision: Decision
    """INCONCLUSIVE as long as the gate is undecided."""
    ratio: float
    """Median over the pairs of baseline seconds / candidate seconds; NaN without pairs. It can lie
    outside of the interval, which forgets nothing that it once excluded: where the ratio moves
    while it is measured, and where the interval is one of those that miss it. It is not moved to
    the end next to it, which would be further from the ratio on average."""
    low: float
    """Lower end of the interval for the median ratio; 0.0 where nothing is known yet."""
    high: float
    """Upper end of the interval; ``math.inf`` where nothing is known yet."""
    pairs: int
    """Pairs seen, those after the verdict included."""
    noise: float
    """Robust standard deviation of one pair's log ratio (0.08 reads "8 % per pair"); NaN below
    two pairs."""
    coverage: float
    """Joint coverage of ``low`` and ``high`` at all times together: 1 - alpha - beta."""
    smallest_ratio_shown: float | None
    """The smallest true ratio that this many pairs, at this noise, would have shown to be at
    least ``min_ratio`` four times in five; None below five pairs."""
    pairs_needed: int | None
    """Pairs a verdict takes *in total*: those it took, or, while undecided, about how many give
    one four times in five if ratio and noise stay as seen (a rough figure). None if that cannot
    be said: fewer than five pairs yet, or a ratio too close to ``min_ratio``."""
    dependence: float
    """How much neighbouring pairs lie on the same side of the median: 0 if independent, towards
    1 if the ratio comes in waves, which the promise does not cover; NaN below two pairs."""
    reason: str
    """The above in one sentence."""


def min_ratio_for_slowdown(percent: float) -> float:
    """Return the ``min_ratio`` that says "at most ``percent`` % slower than the baseline".

    A candidate that is ``percent`` % slower takes ``1 + percent / 100`` times as long, so its
    ratio is ``1 / (1 + percent / 100)``: 5 % slower is a ratio of 0.952, not of 0.95. A gate
    with that ``min_ratio`` says PASS where less slowdown was shown, FAIL where more was.
    """
    percent = float(percent)
    if not (math.isfinite(percent) and percent >= 0):
        raise ValueError(f"percent must be a number of at least 0, not {percent!r}")
    return 1.0 / (1.0 + percent / 100.0)


def check_seconds(name: str, seconds: float, pair: int) -> float:
    """Return ``seconds`` as a float, or raise BadTiming with the argument and the pair named."""
    value = float(seconds)
    if math.isfinite(value) and value > 0:
        return value
    if math.isnan(value):
        fault = "is NaN"
    elif math.isinf(value):
        fault = "is infinite"
    elif value == 0:
        fault = "is zero: the clock is too coarse for this call, or nothing ran"
    else:
        fault = f"is negative ({value!r} s): the clock ran backwards"
    raise BadTiming(f"{name} of pair {pair} {fault}; the pair was not counted")

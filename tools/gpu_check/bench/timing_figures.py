"""Figures of timed calls: spans of profiler events, noise of pairs, rates of verdicts.  Pure."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

PROMISED = 0.05
"""The rate at which a verdict at the threshold may be wrong: the gates' alpha."""


def span_of(events: Iterable[Any], device: str) -> dict[str, Any]:
    """From the first to the last event of a profiler's that ran on ``device`` (``CUDA``, ``CPU``).

    ``span_s`` is that time, ``busy_s`` what the events take of it (those of several streams once),
    ``count`` their number.  Marked regions, of which the profiler puts copies on the device's time
    line, are none, nor are waits; of a CPU only torch's ops are events.
    """
    times = sorted(
        (float(event.time_range.start), float(event.time_range.end))
        for event in events
        if str(event.device_type).rpartition(".")[2] == device
        and not getattr(event, "is_user_annotation", False)
        and not _is_wait(event.name)
        and (device != "CPU" or event.name.startswith("aten::"))
    )
    if not times:
        return {"span_s": 0.0, "busy_s": 0.0, "count": 0}
    busy, reached = 0.0, times[0][0]
    for start, end in times:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return {
        "span_s": (reached - times[0][0]) * 1e-6,
        "busy_s": busy * 1e-6,
        "count": len(times),
    }


def _is_wait(name: str) -> bool:
    """``Context Sync``, ``Stream Wait Event`` and the like, which some profilers show."""
    return name.endswith(" Sync") or name.startswith("Stream Wait")


def noise_of(logs: Sequence[float]) -> dict[str, Any]:
    """Of the log ratios of pairs: standard deviations, and how far each follows the one before."""
    from pytest_diffspeed.statistics.noise import robust_sd

    return {
        "pairs": len(logs),
        "median": statistics.median(logs),
        "sd": statistics.stdev(logs),
        "robust_sd": robust_sd(logs),
        "autocorrelation": autocorrelation(logs),
    }


def autocorrelation(values: Sequence[float]) -> float:
    """At lag 1; 0 where all values are alike.

    Of independent values it lies within 2 ÷ √n of 0 in 19 of 20 cases.
    """
    mean = statistics.fmean(values)
    apart = [value - mean for value in values]
    total = math.fsum(a * a for a in apart)
    if total == 0:
        return 0.0
    return math.fsum(a * b for a, b in itertools.pairwise(apart)) / total


def rate(wrong: int, trials: int) -> dict[str, Any]:
    """A count with its exact one-sided 95 % bounds.

    ``consistent``: the *lower* bound is at most the promised rate, that is, so many wrong verdicts
    or more are to be expected in at least 5 % of such runs where the promise is just kept.
    """
    from pytest_diffspeed.statistics import binomial_lower_bound, binomial_upper_bound

    low, high = binomial_lower_bound(wrong, trials), binomial_upper_bound(wrong, trials)
    return {
        "wrong": wrong,
        "of": trials,
        "low": low,
        "high": high,
        "consistent": low <= PROMISED,
    }


def told(rate_: dict[str, Any]) -> str:
    """``1 of 40 (true share 0 to 11 %)``."""
    return (
        f"{rate_['wrong']} of {rate_['of']} (true share {100 * rate_['low']:.1f} to "
        f"{100 * rate_['high']:.1f} %)"
    )


def within(ratios: Sequence[float], share: float) -> bool:
    """Whether the median of ``ratios`` differs from 1 by at most ``share``."""
    return abs(statistics.median(ratios) - 1.0) <= share


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"

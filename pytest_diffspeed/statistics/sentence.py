"""The one sentence that a gate says for itself."""

from __future__ import annotations

import math
from typing import Final

from .decision import Decision, SpeedupEstimate

_PAIRS_FOR_DEPENDENCE: Final = 20
_DEPENDENCE_IN_SD: Final = 2.5  # of the mean of n products of independent signs, 1 / sqrt(n)
_MANY_TIES: Final = 0.25


def explain(
    estimate: SpeedupEstimate,
    *,
    min_ratio: float,
    least_pairs: int,
    wins: int,
    losses: int,
    ties: int,
    largest_ratio_failed: float | None,
) -> str:
    """Return why ``estimate`` says what it says, as one sentence without a full stop.

    ``wins``, ``losses`` and ``ties`` count the pairs above, below and on ``min_ratio``;
    ``largest_ratio_failed`` mirrors ``smallest_ratio_shown`` below it.
    """
    said_otherwise = "later pairs say otherwise, so the ratio moved while it was measured"
    is_outside = not estimate.low <= estimate.ratio <= estimate.high and estimate.pairs > 0
    if estimate.decision is Decision.PASS:
        parts = [f"shown to be at least {times(min_ratio)}: {wins} of {estimate.pairs} pairs above"]
        if estimate.ratio < min_ratio:
            parts.append(said_otherwise)
    elif estimate.decision is Decision.FAIL:
        parts = [f"shown to be below {times(min_ratio)}: {losses} of {estimate.pairs} pairs below"]
        if estimate.ratio >= min_ratio:
            parts.append(said_otherwise)
    else:
        parts = _undecided(estimate, min_ratio, least_pairs, ties, largest_ratio_failed)
    if is_outside and said_otherwise not in parts:
        parts.append(
            "the median left the interval, so the ratio moved while it was measured, or this is "
            f"one of the at most {percent(1 - estimate.coverage)} that miss it"
        )
    if _is_dependent(estimate):
        parts.append("neighbouring pairs resemble each other, which the error rate does not cover")
    return "; ".join(parts)


def times(ratio: float, beside: float | None = None) -> str:
    """Return "1.18x", with as many more decimals as tell it from ``beside``."""
    decimals = 2
    if beside is not None and ratio != beside:
        while decimals < 6 and f"{ratio:.{decimals}f}" == f"{beside:.{decimals}f}":
            decimals += 1
    return f"{ratio:.{decimals}f}x"


def percent(share: float) -> str:
    """Return "8 %", "0.8 %" or "0.03 %"."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.5 else f"{value:.1g} %" if value >= 1e-3 else "0 %"


def _undecided(
    estimate: SpeedupEstimate,
    min_ratio: float,
    least_pairs: int,
    ties: int,
    largest_ratio_failed: float | None,
) -> list[str]:
    pairs = estimate.pairs
    if pairs < least_pairs:
        counted = "no pairs" if pairs == 0 else "1 pair" if pairs == 1 else f"{pairs} pairs"
        return [f"{counted}: a verdict needs at least {least_pairs}"]
    parts = []
    is_above = estimate.ratio >= min_ratio
    reach = estimate.smallest_ratio_shown if is_above else largest_ratio_failed
    if reach is not None:
        side = ">=" if is_above else "<"
        parts.append(
            f"noise {percent(estimate.noise)} per pair: {pairs} pairs could only show "
            f"{side} {times(reach, min_ratio)}"
        )
    else:
        parts.append(f"noise {percent(estimate.noise)} per pair: {pairs} pairs show nothing yet")
    if ties > _MANY_TIES * pairs:
        parts.append(f"{ties} pairs lie exactly on {times(min_ratio)}: the clock is too coarse")
    elif estimate.pairs_needed is None:
        parts.append(f"the ratio is too close to {times(min_ratio)} to be told from it")
    else:
        parts.append(f"needs about {_two_digits(estimate.pairs_needed)} pairs")
    return parts


def _two_digits(count: int) -> int:
    """Round up to two significant digits: an estimate has no more."""
    step: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return -(-count // step) * step


def _is_dependent(estimate: SpeedupEstimate) -> bool:
    return (
        estimate.pairs >= _PAIRS_FOR_DEPENDENCE
        and estimate.dependence > _DEPENDENCE_IN_SD / math.sqrt(estimate.pairs)
    )

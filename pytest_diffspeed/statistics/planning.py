r"""How much a number of pairs can show: the exact power of the sign gate.

The sign gate sees wins, which come with probability :math:`p`. Let :math:`c_n` be the critical
count after ``n`` pairs: the number of wins is a random walk that stops where it reaches
:math:`c_n`, and its distribution is followed exactly, pair by pair. For Gaussian noise with
standard deviation :math:`\sigma` per pair and a median :math:`\delta` above the threshold,
:math:`p = \Phi(\delta/\sigma)`; the *excess* is :math:`\delta/\sigma`.

Past ``EXACT_PAIRS`` pairs the same is done with the normal approximation to the number of wins
after all pairs, scaled to meet the exact figure where the two join.

Source of the method: P. Armitage, C. K. McPherson, B. C. Rowe, *Repeated significance tests on
accumulating data*, JRSS A 1969 (the recursion for a stopped binomial walk).
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

from .eprocess import (
    MIN_PAIRS,
    critical_count,
    critical_counts,
    log_sign_evidence,
)

TARGET_POWER: Final = 0.8
"""What "could show" means: four times in five."""
EXACT_PAIRS: Final = 256
MOST_PAIRS: Final = 100_000
"""A plan for more pairs than this is no plan."""

_NORMAL: Final = NormalDist()


def power(pairs: int, excess: float, error: float = 0.05) -> float:
    """Return the probability of the right verdict within ``pairs`` pairs.

    ``excess`` is the distance of the median log ratio from the threshold in standard deviations
    of one pair. Exact for independent Gaussian pairs; takes O(pairs^2) additions.
    """
    return _stopped_by(pairs, _NORMAL.cdf(excess), error)


@lru_cache(maxsize=512)
def smallest_excess(pairs: int, error: float = 0.05, target: float = TARGET_POWER) -> float | None:
    """Return the smallest excess that ``pairs`` pairs decide with probability ``target``.

    In standard deviations of one pair; None where no excess would do (fewer than five pairs, or
    an ``error`` too small for so few).
    """
    if pairs < MIN_PAIRS:
        return None
    if pairs > EXACT_PAIRS:
        joint = smallest_excess(EXACT_PAIRS, error, target)
        if joint is None:
            return None
        return (
            joint * _fixed_excess(pairs, error, target) / _fixed_excess(EXACT_PAIRS, error, target)
        )
    if _stopped_by(pairs, 1.0, error) < target:
        return None
    low, high = 0.5, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if _stopped_by(pairs, middle, error) < target:
            low = middle
        else:
            high = middle
    return _NORMAL.inv_cdf(min(high, 1 - 1e-12))


@lru_cache(maxsize=512)
def pairs_for_excess(
    excess: float, error: float = 0.05, target: float = TARGET_POWER
) -> int | None:
    """Return the fewest pairs that decide ``excess`` with probability ``target``.

    None if that takes more than ``MOST_PAIRS``.
    """
    if math.isnan(excess) or excess <= 0:
        return None
    needed = _first_time(EXACT_PAIRS, _NORMAL.cdf(excess), error, target)
    if needed is not None:
        return needed
    few, many = EXACT_PAIRS, MOST_PAIRS
    if not _shows(many, excess, error, target):
        return None
    while many - few > 1:
        middle = (few + many) // 2
        if _shows(middle, excess, error, target):
            many = middle
        else:
            few = middle
    return many


def pairs_to_finish(
    wins: int, pairs: int, error: float = 0.05, target: float = TARGET_POWER
) -> int | None:
    """Return about how many pairs in total decide, going on from ``wins`` in ``pairs`` pairs.

    The probability of a win is taken as ``(wins + 1) / (pairs + 2)`` (Laplace's rule, which
    keeps a few lucky pairs from promising much), ties counting as losses as they do in the gate;
    the wins of the pairs to come as Gaussian. None if wins are no majority, or if it takes more
    than ``MOST_PAIRS``.
    """
    p = (wins + 1) / (pairs + 2)
    if p <= 0.5:
        return None
    z = _NORMAL.inv_cdf(target)

    def finishes(total: int) -> bool:
        more = total - pairs
        expected = wins + more * p - z * math.sqrt(more * p * (1 - p))
        return expected >= critical_count(total, error)

    few, many = pairs, max(2 * pairs, pairs + MIN_PAIRS)
    while not finishes(many):
        few, many = many, 2 * many
        if few >= MOST_PAIRS:
            return None
    while many - few > 1:
        middle = (few + many) // 2
        if finishes(middle):
            many = middle
        else:
            few = middle
    return many


def _shows(pairs: int, excess: float, error: float, target: float) -> bool:
    smallest = smallest_excess(pairs, error, target)
    return smallest is not None and smallest <= excess


@lru_cache(maxsize=8)
def _exact_counts(error: float) -> tuple[int, ...]:
    return tuple(critical_counts(EXACT_PAIRS, error).tolist())


def _stopped_by(pairs: int, p: float, error: float) -> float:
    return _walk(pairs, p, error, 2.0)[0]


def _first_time(pairs: int, p: float, error: float, target: float) -> int | None:
    return _walk(pairs, p, error, target)[1]


def _walk(pairs: int, p: float, error: float, target: float) -> tuple[float, int | None]:
    """Follow the stopped walk; return (stopped by ``pairs``, first pair with that >= target)."""
    counts = _exact_counts(error) if pairs <= EXACT_PAIRS else critical_counts(pairs, error)
    going = np.zeros(pairs + 2)
    going[0] = 1.0
    stopped = 0.0
    for n in range(1, pairs + 1):
        going[1 : n + 1] = going[1 : n + 1] * (1 - p) + going[:n] * p
        going[0] *= 1 - p
        count = int(counts[n - 1])
        if count <= n:
            stopped += float(going[count : n + 1].sum())
            going[count : n + 1] = 0.0
        if stopped >= target:
            return stopped, n
    return stopped, None


@lru_cache(maxsize=512)
def _fixed_excess(pairs: int, error: float, target: float) -> float:
    """Return the excess whose wins reach the critical count after ``pairs`` pairs."""
    few, many = pairs / 2, float(pairs)
    for _ in range(40):  # the critical count as a real number, or steps of whole wins would show
        wins = (few + many) / 2
        decides = log_sign_evidence(wins, pairs - wins) >= -math.log(error)
        few, many = (few, wins) if decides else (wins, many)
    share = many / pairs + _NORMAL.inv_cdf(target) * 0.5 / math.sqrt(pairs)
    return _NORMAL.inv_cdf(min(share, 1 - 1e-12))

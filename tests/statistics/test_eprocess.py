"""The bets: exactly fair at the null, and critical counts that say the same as E."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_diffspeed.statistics import MIN_PAIRS, power
from pytest_diffspeed.statistics.eprocess import (
    CriticalCount,
    critical_count,
    critical_counts,
    e_value,
    log_sign_evidence,
)


@pytest.mark.parametrize("pairs", [1, 2, 6, 17, 40])
def test_the_expected_e_value_of_fair_pairs_is_one(pairs: int) -> None:
    expected = math.fsum(
        math.comb(pairs, wins) / 2**pairs * math.exp(log_sign_evidence(wins, pairs - wins))
        for wins in range(pairs + 1)
    )
    assert expected == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("pairs", [6, 40])
@pytest.mark.parametrize("p", [0.0, 0.2, 0.49])
def test_it_is_less_where_wins_are_rarer(pairs: int, p: float) -> None:
    expected = math.fsum(
        math.comb(pairs, wins)
        * p**wins
        * (1 - p) ** (pairs - wins)
        * math.exp(log_sign_evidence(wins, pairs - wins))
        for wins in range(pairs + 1)
    )
    assert expected < 1


@pytest.mark.parametrize("error", [0.2, 0.05, 0.01, 1e-4])
def test_critical_counts_are_where_e_crosses(error: float) -> None:
    for pairs, count in enumerate(critical_counts(120, error), start=1):
        deciding = [
            wins
            for wins in range(pairs + 1)
            if log_sign_evidence(wins, pairs - wins) >= -math.log(error)
        ]
        expected = min(deciding, default=pairs + 1) if pairs >= MIN_PAIRS else pairs + 1
        assert count == expected == critical_count(pairs, error)


def test_the_step_by_step_count_agrees_with_the_direct_one_far_out() -> None:
    counter = CriticalCount(0.05)
    for pairs in range(1, 5001):
        count = counter.advance()
        if pairs % 500 == 0:
            assert count == critical_count(pairs, 0.05)


@pytest.mark.parametrize(("error", "least"), [(0.4, 5), (0.05, 5), (0.01, 8), (0.001, 11)])
def test_unanimous_pairs_that_decide(error: float, least: int) -> None:
    counts = critical_counts(30, error)
    assert next(n for n, count in enumerate(counts, start=1) if count <= n) == least


def walk(error: float, pairs: int) -> tuple[list[float], float]:
    """The exact distribution of the stopped walk of fair pairs, with no simulation.

    Returns the rate of a verdict by 1, 2, ... ``pairs`` pairs, and what E is expected to be of
    those that go on then.
    """
    going = np.zeros(pairs + 2)
    going[0] = 1.0
    rates, stopped = [], 0.0
    counts = critical_counts(pairs, error)
    for n, count in enumerate(counts, start=1):
        going[1 : n + 1] = (going[1 : n + 1] + going[:n]) / 2
        going[0] /= 2
        if count <= n:
            stopped += float(going[count : n + 1].sum())
            going[count : n + 1] = 0.0
        rates.append(stopped)
    left = [
        probability * math.exp(log_sign_evidence(wins, pairs - wins))
        for wins, probability in enumerate(going[: pairs + 1])
        if probability > 1e-30
    ]
    return rates, math.fsum(left)


@pytest.mark.parametrize(("error", "least"), [(0.2, 5), (0.05, 5), (0.02, 7), (0.01, 8)])
def test_the_exact_rate_of_false_verdicts_at_all_numbers_of_pairs(error: float, least: int) -> None:
    """By 1 000 pairs as counted, and by any number of them: those that go on hold purses which
    grow to 1 / error with a probability of at most ``error`` times what they hold (Ville).
    """
    rates, going_on = walk(error, 1000)
    assert rates[least - 2] == 0 < rates[least - 1]
    assert rates[199] == pytest.approx(power(200, 0.0, error))
    assert 0.4 * error < rates[-1]
    assert rates[-1] + error * going_on <= error


def test_five_of_five_and_then_a_fixed_higher_threshold_would_not_hold() -> None:
    """The rule that looks cheaper, 27.2 with 16 stakes up to 0.95, passes 5 % at 4 302 pairs."""
    stakes = np.geomspace(0.01, 0.95, 16)
    logs = np.log(stakes / stakes.sum()), np.log1p(stakes), np.log1p(-stakes)

    def decides(wins: int, losses: int) -> bool:
        purse = np.exp(logs[0] + wins * logs[1] + losses * logs[2]).sum()
        return bool(purse >= 27.158203125)

    pairs, count, stopped = 4302, 5, 0.0
    going = np.zeros(pairs + 2)
    going[0] = 1.0
    for n in range(1, pairs + 1):
        going[1 : n + 1] = (going[1 : n + 1] + going[:n]) / 2
        going[0] /= 2
        if n < 5:
            continue
        count += n > 5 and not decides(count, n - count)
        stopped += float(going[count : n + 1].sum())
        going[count : n + 1] = 0.0
        if n == 4000:
            assert stopped == pytest.approx(0.04995, abs=1e-5)
    assert stopped > 0.05


def test_e_values_are_cut_off_before_they_overflow() -> None:
    assert e_value(1e6) == pytest.approx(math.exp(690))
    assert e_value(0.0) == 1
    assert e_value(-1e6) == 0

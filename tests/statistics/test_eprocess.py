"""The bets: exactly fair at the null, and critical counts that say the same as E."""

from __future__ import annotations

import math

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


@pytest.mark.parametrize(("error", "least"), [(0.05, 6), (0.01, 9), (0.001, 13)])
def test_unanimous_pairs_that_decide(error: float, least: int) -> None:
    counts = critical_counts(30, error)
    assert next(n for n, count in enumerate(counts, start=1) if count <= n) == least


@pytest.mark.parametrize("error", [0.2, 0.05, 0.01])
def test_the_exact_false_verdict_rate_stays_below_the_promise(error: float) -> None:
    """No simulation: the distribution of the stopped walk of fair pairs, followed exactly."""
    rates = [power(pairs, 0.0, error) for pairs in (6, 20, 60, 200)]
    assert rates == sorted(rates)
    assert 0.4 * error < rates[-1] < 0.95 * error


def test_e_values_are_cut_off_before_they_overflow() -> None:
    assert e_value(1e6) == pytest.approx(math.exp(690))
    assert e_value(0.0) == 1
    assert e_value(-1e6) == 0

"""Clopper-Pearson bounds: textbook values and the definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffspeed.statistics import binomial_lower_bound, binomial_upper_bound


def test_known_values() -> None:
    assert binomial_upper_bound(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert binomial_lower_bound(100, 100) == pytest.approx(0.05 ** (1 / 100))
    assert binomial_upper_bound(5, 5) == 1
    assert binomial_lower_bound(0, 5) == 0
    assert binomial_lower_bound(36, 40) == pytest.approx(0.78560, abs=5e-6)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_the_upper_bound_is_where_the_exact_test_turns(case: tuple[int, int]) -> None:
    successes, trials = case
    p = binomial_upper_bound(successes, trials)
    tail = math.fsum(
        math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes + 1)
    )
    assert tail == pytest.approx(0.05, rel=1e-9)
    assert binomial_lower_bound(successes, trials) <= successes / trials < p


@pytest.mark.parametrize("case", [(-1, 5, 0.05), (6, 5, 0.05), (0, 0, 0.05), (1, 5, 0.0)])
def test_nonsense(case: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError):
        binomial_upper_bound(*case)

"""What a number of pairs can show."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from pytest_diffspeed.statistics import (
    Decision,
    SpeedupGate,
    pairs_for_excess,
    pairs_to_finish,
    power,
    smallest_excess,
)


@pytest.mark.parametrize(
    ("pairs", "excess"), [(8, 1.71), (12, 1.37), (20, 1.054), (40, 0.708), (100, 0.456)]
)
def test_smallest_excess(pairs: int, excess: float) -> None:
    assert smallest_excess(pairs) == pytest.approx(excess, abs=0.005)
    assert power(pairs, excess + 0.01) >= 0.8 >= power(pairs, excess - 0.01)


def test_too_few_pairs_show_nothing() -> None:
    assert smallest_excess(0) is None
    assert smallest_excess(4) is None
    assert smallest_excess(8, 0.001) is None
    assert power(4, 10.0) == 0


def test_more_pairs_show_smaller_excesses_across_the_exact_range() -> None:
    sizes = [*range(5, 40), 100, 255, 256, 257, 258, 300, 400, 1000, 5000, 10_000]
    excesses = [smallest_excess(pairs) for pairs in sizes]
    assert all(a >= b - 1e-9 for a, b in itertools.pairwise(excesses))


def test_power_is_the_share_of_real_gates_that_pass() -> None:
    random, excess, pairs, gates = np.random.default_rng(2), 0.9, 20, 600
    passed = 0
    for _ in range(gates):
        gate = SpeedupGate(1.0, max_pairs=pairs)
        while gate.decision is None:
            gate.update(math.exp(0.1 * (excess + random.standard_normal())), 1.0)
        passed += gate.decision is Decision.PASS
    expected = power(pairs, excess)
    assert passed / gates == pytest.approx(expected, abs=4 * math.sqrt(0.25 / gates))


@pytest.mark.parametrize("excess", [3.0, 1.0, 0.5, 0.25, 0.1])
def test_pairs_for_excess_is_the_inverse(excess: float) -> None:
    pairs = pairs_for_excess(excess)
    assert pairs is not None
    assert smallest_excess(pairs) <= excess + 1e-6
    assert pairs == 5 or smallest_excess(pairs - 1) > excess - 1e-6


@pytest.mark.parametrize("excess", [0.0, -1.0, math.nan, 1e-4])
def test_no_number_of_pairs_decides_nothing(excess: float) -> None:
    assert pairs_for_excess(excess) is None


def test_pairs_to_finish_counts_what_is_in_hand() -> None:
    assert pairs_to_finish(5, 5) < pairs_to_finish(4, 5)
    assert pairs_to_finish(16, 20) < pairs_to_finish(14, 20) < pairs_to_finish(12, 20)
    assert pairs_to_finish(20, 40) is None
    assert pairs_to_finish(0, 0) is None


def test_pairs_to_finish_is_about_right() -> None:
    """Of runs that go on from 14 wins in 20 at p = 0.7, four in five end by then."""
    expected = pairs_to_finish(14, 20)
    random, ended = np.random.default_rng(4), 0
    for _ in range(300):
        gate = SpeedupGate(1.0, max_pairs=expected)
        for win in [True, True, False, True] * 4 + [False, True, True, False]:
            gate.update(1.1 if win else 0.9, 1.0)
        while gate.decision is None:
            gate.update(1.1 if random.random() < 15 / 22 else 0.9, 1.0)
        ended += gate.decision is Decision.PASS
    assert 0.75 <= ended / 300 <= 0.95

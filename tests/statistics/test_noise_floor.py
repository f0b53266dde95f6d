"""Noise and order bias from the baseline against itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_diffspeed.statistics import BadTiming, noise_floor
from pytest_diffspeed.statistics.noise import robust_sd


def pairs_of(bias: float, noise: float, count: int) -> list[tuple[float, float]]:
    random = np.random.default_rng(8)
    return [(1.0, math.exp(bias + noise * z)) for z in random.standard_normal(count)]


def test_noise_and_bias_are_found() -> None:
    floor = noise_floor(pairs_of(0.05, 0.03, 100))
    assert floor.pairs == 100
    assert floor.noise == pytest.approx(0.03, rel=0.2)
    assert floor.order_bias == pytest.approx(0.05, abs=0.01)
    assert floor.low < 0.05 < floor.high
    assert floor.low <= floor.order_bias <= floor.high
    assert floor.is_biased
    assert floor.coverage == 0.95


def test_no_bias() -> None:
    floor = noise_floor(pairs_of(0.0, 0.03, 60))
    assert floor.low < 0 < floor.high
    assert not floor.is_biased


def test_a_faster_second_call_is_a_bias_too() -> None:
    assert noise_floor(pairs_of(-0.2, 0.03, 20)).is_biased


def test_nothing_is_known_from_nothing() -> None:
    floor = noise_floor([])
    assert (floor.low, floor.high) == (-math.inf, math.inf)
    assert math.isnan(floor.noise)
    assert math.isnan(floor.order_bias)
    assert not floor.is_biased


def test_bad_times_and_a_bad_error_are_refused() -> None:
    with pytest.raises(BadTiming, match="later_seconds of pair 2 is zero"):
        noise_floor([(1.0, 1.0), (1.0, 0.0)])
    with pytest.raises(ValueError, match="error must lie between 0 and 1"):
        noise_floor([], error=0.0)


def test_robust_sd() -> None:
    z = np.random.default_rng(1).standard_normal(4000)
    assert robust_sd(z) == pytest.approx(1, abs=0.05)
    assert robust_sd(np.where(np.arange(4000) % 10 == 0, 50.0, z)) < 1.3
    assert robust_sd([0.0, 0.0, 0.0, 0.0, 1.0]) == pytest.approx(np.std([0, 0, 0, 0, 1], ddof=1))
    assert robust_sd([2.0, 2.0]) == 0
    assert math.isnan(robust_sd([2.0]))

"""The interval inverts the e-processes that decide: properties that hold after every pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_diffspeed.statistics import METHODS, Decision, SpeedupGate
from pytest_diffspeed.statistics.bet import BetEvidence
from pytest_diffspeed.statistics.eprocess import TIE_TOLERANCE, critical_count
from pytest_diffspeed.statistics.sign import SignEvidence

# Ticks tie often; shifted runs of them give every verdict, also ones that later pairs contradict.
ticks = st.integers(min_value=15, max_value=25)
runs = st.lists(
    st.tuples(st.integers(-6, 6), st.lists(ticks, min_size=1, max_size=12)), min_size=1, max_size=6
)


def times_of(run: list[tuple[int, list[int]]]) -> list[float]:
    return [0.1 * (tick + shift) for shift, part in run for tick in part]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=30)
@given(run=runs, min_ratio=st.sampled_from([1.0, 1.5, 0.7, 1 / 1.05]))
def test_the_interval_agrees_with_the_decision_after_every_pair(
    method: str, run: list[tuple[int, list[int]]], min_ratio: float
) -> None:
    gate = SpeedupGate(min_ratio, max_pairs=20, method=method)
    low, high = 0.0, math.inf
    for seconds in times_of(run):
        gate.update(seconds * min_ratio, 2.0)
        estimate = gate.estimate()
        assert (gate.decision is Decision.PASS) == (estimate.low >= min_ratio)
        assert (gate.decision is Decision.FAIL) == (estimate.high < min_ratio)
        assert estimate.low <= estimate.high
        assert estimate.decision is (gate.decision or Decision.INCONCLUSIVE)
        if gate.decision is None:  # until the verdict it only ever narrows
            assert low <= estimate.low * (1 + 1e-9)
            assert estimate.high <= high * (1 + 1e-9)
        low, high = estimate.low, estimate.high


@settings(max_examples=30)
@given(run=runs, theta=st.sampled_from([k / 200 for k in range(-60, 61, 3)] + [0.0]))
@pytest.mark.parametrize("evidence", [SignEvidence, BetEvidence])
def test_a_threshold_lies_outside_exactly_if_its_own_gate_excludes_it(
    evidence: type[SignEvidence | BetEvidence], run: list[tuple[int, list[int]]], theta: float
) -> None:
    here, there = evidence(0.05, 0.02), evidence(0.05, 0.02)
    for seconds in times_of(run):
        x = math.log(seconds / 2.0)
        here.add(x)
        there.add(x - theta)
    low, high = here.bounds()
    if abs(low - theta) > 1e-8:  # nearer, rounding and the tolerance for ties speak
        assert (theta <= low) == there.above
    if abs(high - theta) > 1e-8:
        assert (theta > high) == there.below


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60))
@settings(max_examples=50)
def test_sign_bounds_are_order_statistics(xs: list[float]) -> None:
    evidence = SignEvidence(0.05, 0.1)
    low, high = -math.inf, math.inf
    for n, x in enumerate(xs, start=1):
        evidence.add(x)
        up, down = critical_count(n, 0.05), critical_count(n, 0.1)
        ordered = sorted(xs[:n])
        if up <= n:
            low = max(low, ordered[-up] - TIE_TOLERANCE)
        if down <= n:
            high = min(high, ordered[down - 1] + TIE_TOLERANCE)
        assert evidence.bounds() == (low, high)
    assert evidence.wins == sum(x >= TIE_TOLERANCE for x in xs)
    assert evidence.losses == sum(x < -TIE_TOLERANCE for x in xs)
    assert evidence.wins + evidence.losses + evidence.ties == len(xs)


@pytest.mark.parametrize("method", METHODS)
def test_the_interval_holds_the_true_ratio_at_all_times(method: str) -> None:
    random = np.random.default_rng(11)
    gates, missed = 200, 0
    for _ in range(gates):
        gate = SpeedupGate(1.0, method=method)
        for ratio in 1.2 * np.exp(0.07 * random.standard_normal(60)):
            gate.update(ratio, 1.0)
        estimate = gate.estimate()
        missed += not estimate.low <= 1.2 <= estimate.high
    assert missed / gates <= 0.10  # joint coverage of 90 %; a running interval: at all 60 pairs


def test_a_median_outside_of_its_interval_is_said_and_nearer_to_the_ratio_than_its_end() -> None:
    """docs/statistics.md: why the reported ratio is not moved into the interval."""
    random = np.random.default_rng(5)
    of_median, of_end = [], []
    for _ in range(250):
        gate = SpeedupGate(1.0)
        for noise in 0.05 * random.standard_normal(120):
            gate.update(math.exp(noise), 1.0)
        found = gate.estimate()
        left = "the median left the interval" in found.reason or "say otherwise" in found.reason
        assert left == (not found.low <= found.ratio <= found.high)
        if left:
            end = min(max(found.ratio, found.low), found.high)
            of_median.append(abs(math.log(found.ratio)))
            of_end.append(abs(math.log(end)))
    assert 5 <= len(of_median) <= 25  # at most 10 % miss the ratio
    assert np.median(of_median) < np.median(of_end)


def test_fast_and_slow_are_mirror_images() -> None:
    random = np.random.default_rng(3)
    there, back = SpeedupGate(1.25, alpha=0.05, beta=0.02), SpeedupGate(0.8, 0.02, 0.05)
    for ratio in 1.3 * np.exp(0.1 * random.standard_normal(80)):
        there.update(ratio, 1.0)
        back.update(1.0, ratio)
    assert there.evidence_for_pass == back.evidence_for_fail
    assert there.estimate().low == pytest.approx(1 / back.estimate().high)
    assert there.estimate().high == pytest.approx(1 / back.estimate().low)

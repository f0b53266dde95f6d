"""The gate as its users see it: verdicts, refusals, and what it says."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from pytest_diffspeed.statistics import (
    METHODS,
    BadTiming,
    Decision,
    SpeedupGate,
    eprocess,
    min_ratio_for_slowdown,
)

methods = pytest.mark.parametrize("method", METHODS)


def feed(gate: SpeedupGate, *ratios: float) -> Decision | None:
    for ratio in ratios:
        gate.update(ratio, 1.0)
    return gate.decision


@methods
def test_five_unanimous_pairs_decide_and_four_do_not(method: str) -> None:
    passing, failing = (SpeedupGate(1.5, method=method) for _ in range(2))
    assert [passing.update(2.0, 1.0) for _ in range(5)] == [None] * 4 + [Decision.PASS]
    assert [failing.update(1.0, 1.0) for _ in range(5)] == [None] * 4 + [Decision.FAIL]


@methods
def test_never_before_five_pairs_whatever_the_error_rate(method: str) -> None:
    gate = SpeedupGate(1.0, alpha=0.4, beta=0.4, method=method)
    assert [gate.update(2.0, 1.0) for _ in range(5)] == [None] * 4 + [Decision.PASS]


@methods
def test_a_candidate_exactly_on_the_threshold_is_never_decided(method: str) -> None:
    gate = SpeedupGate(1.0, method=method)
    assert feed(gate, *[1.0] * 500) is None
    assert gate.estimate().low <= 1.0 <= gate.estimate().high


@pytest.mark.parametrize("ticks", [(3, 2), (6, 4), (9, 6), (300, 200)])
@methods
def test_ticks_that_tie_stay_ties_in_floating_point(ticks: tuple[int, int], method: str) -> None:
    # 0.3 / 0.2 is 1.4999999999999998: without a tolerance all pairs would fall on one side.
    gate = SpeedupGate(1.5, method=method)
    for _ in range(200):
        assert gate.update(ticks[0] * 0.1, ticks[1] * 0.1) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -0.0, -1e-9])
@pytest.mark.parametrize("argument", ["baseline_seconds", "candidate_seconds"])
def test_a_bad_time_is_refused_and_leaves_the_gate_as_it_was(bad: float, argument: str) -> None:
    gate = SpeedupGate(1.0)
    feed(gate, 1.1, 1.2, 1.3)
    before = gate.estimate()
    times = {"baseline_seconds": 1.0, "candidate_seconds": 1.0, argument: bad}
    with pytest.raises(BadTiming, match=f"^{argument} of pair 4 is .*not counted$") as caught:
        gate.update(**times)
    assert isinstance(caught.value, ValueError)
    assert gate.estimate() == before


@pytest.mark.parametrize("seconds", [5e-324, 1e-300, 1e300, sys.float_info.max])
def test_times_of_any_size_are_taken(seconds: float) -> None:
    gate = SpeedupGate(1.0)
    for _ in range(6):
        gate.update(seconds, 1.0)
    assert gate.decision is (Decision.PASS if seconds > 1 else Decision.FAIL)
    assert not math.isnan(gate.estimate().ratio)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_ratio": 0.0}, "min_ratio must be a finite number above 0, not 0.0"),
        ({"min_ratio": math.nan}, "min_ratio must be"),
        ({"min_ratio": math.inf}, "min_ratio must be"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 0.5, not 0.0"),
        ({"beta": 0.5}, "beta must lie between 0 and 0.5, not 0.5"),
        ({"alpha": math.nan}, "alpha must lie"),
        ({"method": "welch"}, "method must be one of sign, bet, not 'welch'"),
        ({"max_pairs": 4}, "max_pairs must be at least 5, not 4: fewer pairs can give no verdict"),
        ({"max_pairs": 8, "alpha": 1e-3}, "max_pairs must be at least 11, not 8"),
    ],
)
def test_a_gate_that_could_never_work_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        SpeedupGate(**{"min_ratio": 1.0, **arguments})
    assert str(caught.value).startswith(message)


@methods
def test_a_verdict_is_final_and_the_estimate_goes_on(method: str) -> None:
    gate = SpeedupGate(1.0, method=method)
    feed(gate, *[1.1] * 6)
    assert feed(gate, *[0.8] * 60) is Decision.PASS
    estimate = gate.estimate()
    assert estimate.pairs == gate.pairs == 66
    assert estimate.pairs_needed == 5
    assert estimate.ratio == pytest.approx(0.8)
    assert 1.0 <= estimate.low <= estimate.high
    assert "later pairs say otherwise, so the ratio moved while it was measured" in estimate.reason
    assert gate.evidence_for_fail > 20 > gate.evidence_for_pass


@methods
def test_inconclusive_is_the_budget_and_more_pairs_go_on(method: str) -> None:
    gate = SpeedupGate(1.0, max_pairs=8, method=method)
    assert feed(gate, *[1.1, 0.9] * 4) is Decision.INCONCLUSIVE
    assert gate.update(1.2, 1.0) is Decision.INCONCLUSIVE
    assert feed(gate, *[1.2] * 40) is Decision.PASS
    assert gate.estimate().low >= 1.0


def test_undecided_estimates_say_inconclusive() -> None:
    gate = SpeedupGate(1.0)
    assert gate.decision is None
    estimate = gate.estimate()
    assert estimate.decision is Decision.INCONCLUSIVE
    assert (estimate.low, estimate.high, estimate.pairs) == (0.0, math.inf, 0)
    assert math.isnan(estimate.ratio)
    assert math.isnan(estimate.noise)
    assert estimate.smallest_ratio_shown is None
    assert estimate.pairs_needed is None


def test_coverage_is_what_both_error_rates_leave() -> None:
    assert SpeedupGate(1.0, alpha=0.05, beta=0.01).estimate().coverage == 0.94


@methods
def test_e_values_start_at_one_and_stay_finite(method: str) -> None:
    gate = SpeedupGate(1.0, method=method)
    assert gate.evidence_for_pass == pytest.approx(1)
    assert gate.evidence_for_fail == pytest.approx(1)
    feed(gate, *[2.0] * 2000)
    assert 1e290 < gate.evidence_for_pass < math.inf
    assert 0 <= gate.evidence_for_fail < 1e-10


def test_the_verdict_is_the_e_value_crossing_one_over_alpha() -> None:
    random = np.random.default_rng(5)
    for _ in range(50):
        gate = SpeedupGate(1.0, alpha=0.05, beta=0.02, max_pairs=200)
        while gate.decision is None:
            assert gate.pairs < 5 or gate.evidence_for_pass < 20
            assert gate.pairs < 5 or gate.evidence_for_fail < 50
            gate.update(math.exp(random.normal(0.0, 0.1)), 1.0)
        assert (gate.decision is Decision.PASS) == (gate.evidence_for_pass >= 20)
        assert (gate.decision is Decision.FAIL) == (gate.evidence_for_fail >= 50)


def test_at_most_five_percent_slower() -> None:
    assert min_ratio_for_slowdown(5) == pytest.approx(1 / 1.05)
    assert min_ratio_for_slowdown(0) == 1
    gate = SpeedupGate.for_max_slowdown(5, alpha=0.01, max_pairs=30)
    assert (gate.min_ratio, gate.alpha, gate.max_pairs) == (1 / 1.05, 0.01, 30)
    assert feed(SpeedupGate.for_max_slowdown(5), *[1 / 1.04] * 6) is Decision.PASS
    assert feed(SpeedupGate.for_max_slowdown(5), *[1 / 1.06] * 6) is Decision.FAIL
    for bad in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match="percent must be a number of at least 0"):
            min_ratio_for_slowdown(bad)


# --- What it says: the exact sentences --------------------------------------------------------


@pytest.mark.parametrize(
    ("min_ratio", "ratios", "reason"),
    [
        (1.8, [2.0] * 6, "shown to be at least 1.80x: 5 of 5 pairs above"),
        (1.8, [1.9] * 9 + [1.7] + [1.9] * 3, "shown to be at least 1.80x: 5 of 5 pairs above"),
        (1.8, [1.7] * 7, "shown to be below 1.80x: 5 of 5 pairs below"),
        (1.0, [], "no pairs: a verdict needs at least 5"),
        (1.0, [1.1], "1 pair: a verdict needs at least 5"),
        (1.0, [1.1] * 4, "4 pairs: a verdict needs at least 5"),
        (
            1.0,
            [1.0] * 12 + [1.1, 0.9],
            "noise 4 % per pair: 14 pairs could only show >= 1.06x; "
            "12 pairs lie exactly on 1.00x: the clock is too coarse",
        ),
        (
            1.0,
            [1.1, 1.08, 0.97, 1.05, 0.99, 1.12, 1.01, 0.96, 1.02, 1.06],
            "noise 6 % per pair: 10 pairs could only show >= 1.12x; needs about 140 pairs",
        ),
        (
            1.0,
            [1.1, 1.08, 0.97, 1.05, 0.99, 1.12, 0.98, 0.96, 0.91, 0.97],
            "noise 7 % per pair: 10 pairs could only show < 0.89x; needs about 720 pairs",
        ),
        (
            1.0,
            [1.1, 0.9] * 5,
            "noise 15 % per pair: 10 pairs could only show < 0.78x; "
            "the ratio is too close to 1.00x to be told from it",
        ),
    ],
)
def test_the_reason(min_ratio: float, ratios: list[float], reason: str) -> None:
    gate = SpeedupGate(min_ratio)
    for ratio in ratios:
        if gate.update(ratio, 1.0) is not None:
            break
    assert gate.estimate().reason == reason


def test_the_reason_tells_close_ratios_apart() -> None:
    gate = SpeedupGate(1.0)
    for ratio in [1.0002, 1.0004, 0.9998, 1.0001, 0.9999, 1.0003, 1.0002, 0.9997]:
        gate.update(ratio, 1.0)
    assert "could only show >= 1.001x" in gate.estimate().reason
    assert gate.estimate().reason.startswith("noise 0.03 % per pair")


def test_the_reason_warns_of_waves() -> None:
    gate = SpeedupGate(1.0)
    feed(gate, *([1.1] * 5 + [0.9] * 5) * 6)
    estimate = gate.estimate()
    assert estimate.dependence > 0.5
    assert estimate.reason.endswith(
        "neighbouring pairs resemble each other, which the error rate does not cover"
    )


# --- Cost and surroundings --------------------------------------------------------------------


def test_ten_thousand_pairs_take_a_constant_number_of_evaluations_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    original = eprocess.log_sign_evidence

    def counting(wins: int, losses: int) -> float:
        nonlocal calls
        calls += 1
        return original(wins, losses)

    monkeypatch.setattr(eprocess, "log_sign_evidence", counting)
    gate = SpeedupGate(1.0)
    feed(gate, *np.exp(0.1 * np.random.default_rng(0).standard_normal(10_000)))
    assert gate.pairs == 10_000
    assert calls <= 2 * 10_000 + 20


def test_needs_numpy_only() -> None:
    code = (
        "import sys, pytest_diffspeed.statistics;"
        "print(sorted({'torch', 'pytest', 'scipy', 'diffusers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

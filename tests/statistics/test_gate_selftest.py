"""The gate keeps its promise on simulated clocks: the quick size of benchmarks/gate_selftest.py."""

from __future__ import annotations

import doctest
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pytest_diffspeed import statistics

ROOT = Path(__file__).parents[2]


def load_selftest() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "gate_selftest", ROOT / "benchmarks" / "gate_selftest.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


selftest = load_selftest()


@pytest.mark.parametrize("clock", selftest.CLOCKS, ids=lambda clock: clock.name)
def test_at_most_five_percent_of_verdicts_on_the_threshold_are_false(clock) -> None:
    """That it holds is counted exactly in test_eprocess.py; this is the gate on real orders."""
    gates, pairs = selftest.QUICK_GATES, selftest.QUICK_PAIRS
    for rate in selftest.error_rates(clock, gates, pairs=pairs):
        assert rate.judgement != "broken", str(rate)


def test_what_the_docs_call_outside_is_outside() -> None:
    clock = selftest.OUTSIDE[-1]
    assert {rate.judgement for rate in selftest.error_rates(clock, 500)} == {"broken"}


def test_short_blocks_give_the_order_away() -> None:
    clock = selftest.Clock("blocks of two", selftest.machine(selftest.alternating, block=2))
    assert {rate.judgement for rate in selftest.error_rates(clock, 500)} == {"broken"}


@pytest.mark.parametrize("clock", selftest.BET_CLOCKS, ids=lambda clock: clock.name)
def test_the_bet_keeps_its_own_null(clock) -> None:
    for rate in selftest.error_rates(clock, selftest.QUICK_BET_GATES, "bet"):
        assert rate.judgement != "broken", str(rate)


@pytest.mark.parametrize("gap", [0.10, -0.10])
def test_a_clear_gap_is_decided(gap: float) -> None:
    outcomes = selftest.simulate(selftest.GAUSSIAN, 500, ratio=1 + gap, pairs=100)
    right = outcomes.passed if gap > 0 else outcomes.failed
    assert right.mean() > 0.99
    assert outcomes.pairs.mean() < 11


@pytest.mark.parametrize("clock", selftest.CLOCKS, ids=lambda clock: clock.name)
def test_the_median_ratio_of_each_clock_is_what_it_says(clock) -> None:
    baseline, candidate = clock.times(np.random.default_rng(7), 400, 200, 1.0)
    ratios = baseline / candidate
    below, above = (ratios < 1 - 1e-9).mean(), (ratios > 1 + 1e-9).mean()
    assert below <= 0.508  # 80 000 pairs: four and a half standard deviations
    assert above <= 0.508


def test_every_order_is_balanced() -> None:
    order = selftest.order_of_calls(np.random.default_rng(0), 50, 40, block=4)
    assert (order.reshape(50, 10, 4).sum(axis=2) == 2).all()
    assert 0.4 < order[:, 0].mean() < 0.6


def test_the_report_can_be_printed() -> None:
    text = "\n".join(selftest.report(60, 3))
    assert text.count("### ") == 8
    assert "nan" not in text


def test_examples_in_docstrings_and_docs() -> None:
    assert doctest.testmod(statistics).failed == 0
    assert doctest.testfile(str(ROOT / "docs" / "statistics.md"), module_relative=False).failed == 0

"""Several ratios from the same rounds: which arms run, which pairs count, and when it ends."""

import itertools
import math

import pytest

from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.timing.arm import Arm
from pytest_diffspeed.timing.comparison import Hypothesis
from pytest_diffspeed.timing.speedup import SpeedupMeasurement
from tests.clocks import ScriptedClock


def arms(*names):
    return [Arm(name, lambda name=name: name) for name in names]


def constant(seconds):
    return itertools.repeat(seconds)


def measure(clock, questions, names=("base", "middle", "fast"), **options):
    return SpeedupMeasurement(
        [arms(*names)], questions, clock=clock, now=lambda: 0.0, seed=3, **options
    ).run()


def test_two_gates_take_their_pairs_from_the_same_rounds():
    clock = ScriptedClock(base=constant(4.0), middle=constant(2.0), fast=constant(1.0))
    told = []
    first, second = measure(
        clock,
        [Hypothesis(3.0, baseline=0, candidate=2), Hypothesis(1.5, baseline=1, candidate=2)],
        on_pair=lambda number, pair: told.append((number, pair)),
    )
    assert (first.ratio, second.ratio) == (pytest.approx(4.0), pytest.approx(2.0))
    assert first.verdict is second.verdict is VerdictKind.PASS
    assert (first.pairs, second.pairs) == (5, 5)
    assert len(clock.calls) == 3 * 3 + 3 * 5  # warm-up, then one call of each arm a round
    by_round = [[pair for _, pair in told if pair.index == index] for index in range(5)]
    assert all(one.candidate_s == other.candidate_s for one, other in by_round)


def test_two_gates_on_the_same_ratio_measure_it_once():
    clock = ScriptedClock(base=constant(2.0), fast=constant(1.0))
    results = measure(clock, [Hypothesis(1.5), Hypothesis(3.0)], names=("base", "fast"))
    assert [result.verdict for result in results] == [VerdictKind.PASS, VerdictKind.FAIL]
    assert len(clock.calls) == 2 * 3 + 2 * 5


def test_an_arm_whose_ratios_are_decided_runs_no_more():
    undecided = itertools.cycle([1.4, 1.6])
    clock = ScriptedClock(base=constant(9.0), middle=undecided, fast=constant(1.0))
    seconds = itertools.count()
    results = SpeedupMeasurement(
        [arms("base", "middle", "fast")],
        [Hypothesis(3.0, baseline=0, candidate=2), Hypothesis(1.5, baseline=1, candidate=2)],
        clock=clock,
        budget_s=40.0,
        now=lambda: float(next(seconds)),
    ).run()
    assert [r.verdict for r in results] == [VerdictKind.PASS, VerdictKind.INCONCLUSIVE]
    assert clock.calls.count("base") == 4 + 5
    assert clock.calls.count("middle") == 4 + results[1].pairs > 9


def test_a_verdict_is_told_before_the_next_round():
    undecided = itertools.cycle([1.4, 1.6])
    clock = ScriptedClock(base=constant(9.0), middle=undecided, fast=constant(1.0))
    told = []

    class Stop(Exception): ...

    def on_pair(number, pair):
        if pair.index == 7:
            raise Stop

    with pytest.raises(Stop):
        measure(
            clock,
            [Hypothesis(3.0, baseline=0, candidate=2), Hypothesis(1.5, baseline=1, candidate=2)],
            on_pair=on_pair,
            on_result=lambda number, result: told.append((number, result.verdict)),
        )
    assert told == [(0, VerdictKind.PASS)]


def test_earlier_pairs_count_and_say_so():
    clock = ScriptedClock(base=constant(2.0), fast=constant(1.0))
    question = Hypothesis(1.5, earlier=((2.0, 1.0),) * 4, earlier_instances=2)
    (result,) = measure(clock, [question], names=("base", "fast"))
    assert (result.verdict, result.pairs, result.earlier_pairs) == (VerdictKind.PASS, 9, 4)
    assert result.instances == 3
    assert len(clock.calls) == 2 * 3 + 2 * 5


def test_instances_take_turns_and_each_has_its_own():
    calls = []

    def instance(number):
        return [
            Arm("base", lambda: calls.append((number, "base")) or "base"),
            Arm("fast", lambda: calls.append((number, "fast")) or "fast"),
        ]

    clock = ScriptedClock(base=constant(2.0), fast=constant(1.0))
    told = []
    (result,) = SpeedupMeasurement(
        [instance(0), instance(1), instance(2), instance(3)],
        [Hypothesis(1.5)],
        clock=clock,
        now=lambda: 0.0,
        on_pair=lambda _, pair: told.append(pair.instance),
    ).run()
    # Five pairs decide; the turn is ended first, so that each instance counts.
    assert told == [0, 1, 2, 3, 0, 1, 2, 3]
    assert (result.verdict, result.pairs, result.instances) == (VerdictKind.PASS, 8, 4)
    timed = calls[4 * 2 * 3 :]
    assert [number for number, _ in timed] == [n for n in (0, 1, 2, 3) * 2 for _ in range(2)]


def test_every_instance_has_its_turn_even_when_the_budget_is_spent():
    clock = ScriptedClock(base=itertools.cycle([1.4, 1.6]), fast=constant(1.0))
    seconds = itertools.count(step=10)
    told = []
    SpeedupMeasurement(
        [arms("base", "fast") for _ in range(5)],
        [Hypothesis(1.5)],
        clock=clock,
        budget_s=30.0,
        now=lambda: float(next(seconds)),
        on_pair=lambda _, pair: told.append(pair.instance),
    ).run()
    assert set(told) == set(range(5))


def test_what_a_round_costs_beside_its_calls_is_told():
    now = itertools.count(start=0.0, step=3.25)
    clock = ScriptedClock(base=constant(2.0), fast=constant(1.0))
    (result,) = SpeedupMeasurement(
        [arms("base", "fast")], [Hypothesis(1.5)], clock=clock, now=lambda: next(now)
    ).run()
    assert result.round_overhead_s == pytest.approx(0.25)


def test_the_budget_grows_with_the_ratios_that_share_it():
    clock = ScriptedClock(base=constant(4.0), middle=constant(2.0), fast=constant(1.0))
    budgets = []
    measure(
        clock,
        [Hypothesis(3.0, baseline=0, candidate=2), Hypothesis(1.5, baseline=1, candidate=2)],
        budget_s=50.0,
        on_warm=lambda number, warm, projection: budgets.append(projection),
    )
    assert {projection.budget_s for projection in budgets} == {100.0}
    assert {projection.pairs for projection in budgets} == {int(100 / 7)}
    assert all(math.isnan(projection.noise) for projection in budgets)

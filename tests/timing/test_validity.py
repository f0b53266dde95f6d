"""Pairs that do not count, and the proof that what drops them cannot tilt the gate."""

import gc
import itertools
import math
import random

import pytest

from pytest_diffspeed import measure_speedup
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.statistics import Decision, SpeedupGate
from pytest_diffspeed.timing.arm import Arm
from pytest_diffspeed.timing.rounds import measure_rounds
from pytest_diffspeed.timing.validity import (
    ALWAYS_ALLOWED,
    MAX_SHARE,
    FullCollection,
    Validity,
)


class OneSecond:
    def __init__(self):
        self.calls = []

    def time(self, call):
        self.calls.append(call())
        return 1.0, None


def arms():
    return Arm("base", lambda: "base"), Arm("fast", lambda: "fast")


@pytest.fixture
def small_heap():
    """A full collection need not walk through torch."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def says(*answers):
    """A condition with these answers, and quiet from then on."""
    left = iter(answers)
    return lambda: next(left, None)


def measure(conditions, **options):
    told = []
    options.setdefault("min_ratio", 0.5)
    result = measure_speedup(
        *arms(),
        clock=OneSecond(),
        now=lambda: 0.0,
        disturbances=conditions,
        on_pair=told.append,
        **options,
    )
    return result, told


def test_a_dropped_pair_is_told_with_its_reason_and_does_not_count():
    result, told = measure([says(None, "throttled")])
    assert result.verdict is VerdictKind.PASS
    assert result.pairs == 5
    assert (result.dropped_pairs, result.kept_disturbed_pairs) == (1, 0)
    assert [pair.dropped for pair in told] == [None, "throttled", *[None] * 4]
    assert [pair.index for pair in told] == list(range(6))


def test_a_condition_is_asked_before_the_pair_and_outside_of_its_calls():
    clock, asked = OneSecond(), []
    base, fast = arms()

    def condition():
        asked.append(len(clock.calls))
        return None

    for _ in itertools.islice(
        measure_rounds(
            [[base, fast]], clock, seed=1, before_round=Validity([condition]).before_pair
        ),
        4,
    ):
        pass
    assert asked == [0, 2, 4, 6]


def test_a_round_that_is_dropped_does_not_give_the_next_order_away():
    base, fast = arms()
    every_third = itertools.cycle([None, None, "disturbed"])
    rounds = measure_rounds(
        [[base, fast]], OneSecond(), seed=5, before_round=lambda: next(every_third)
    )
    pairs = [round_.pair(0, 1) for round_ in itertools.islice(rounds, 1200)]
    after = list(zip(pairs[2::3], pairs[3::3], strict=False))
    assert all(dropped.dropped for dropped, _ in after)
    alike = sum(dropped.candidate_first == pair.candidate_first for dropped, pair in after)
    assert 0.4 < alike / len(after) < 0.6  # it was used again: all


def test_no_more_than_the_share_is_dropped_and_then_nothing_any_more():
    always = Validity([lambda: "noisy"])
    dropped = [always.before_pair() is not None for _ in range(50)]
    assert dropped == [True] * ALWAYS_ALLOWED + [False] * (50 - ALWAYS_ALLOWED)
    assert (always.dropped, always.kept_disturbed) == (2, 48)
    assert always.remark == (
        "the machine was disturbed before 50 of 50 pairs; no more than 20% may be dropped, so 48 "
        "of them count"
    )


def test_the_share_is_one_of_all_pairs():
    tenth = itertools.cycle([None] * 9 + ["noisy"])
    validity = Validity([lambda: next(tenth)])
    assert sum(validity.before_pair() is not None for _ in range(100)) == 10
    assert validity.remark == ""
    rising = iter([None] * 20 + ["noisy"] * 20)
    validity = Validity([lambda: next(rising)])
    dropped = sum(validity.before_pair() is not None for _ in range(40))
    assert dropped <= MAX_SHARE * 40
    assert dropped + validity.kept_disturbed == 20


def test_a_machine_that_is_always_disturbed_gets_a_verdict_that_says_so():
    result, told = measure([lambda: "noisy"])
    assert result.verdict is VerdictKind.PASS
    assert (result.pairs, result.dropped_pairs, result.kept_disturbed_pairs) == (5, 2, 5)
    assert len(told) == 7
    assert result.reason.endswith(
        "; the machine was disturbed before 7 of 7 pairs; no more than 20% may be dropped, so 5 "
        "of them count"
    )


def test_reasons_that_come_together_are_all_told_and_all_conditions_asked():
    asked = []
    validity = Validity([says("hot"), lambda: asked.append(1), says("stolen")])
    assert validity.before_pair() == "hot; stolen"
    assert asked == [1]


def test_a_full_collection_between_pairs_drops_the_next_one_only(small_heap):
    collection = FullCollection()
    with collection.watching():
        gc.collect()
        assert collection() == "a full garbage collection ran just before"
        assert collection() is None
        gc.collect(0)
        assert collection() is None
    gc.collect()
    assert collection() is None


def test_a_collection_that_an_arm_asks_for_is_its_own_work(small_heap):
    told = []
    result = measure_speedup(
        Arm("base", lambda: "base"),
        Arm("tidy", gc.collect),
        min_ratio=0.5,
        clock=OneSecond(),
        now=lambda: 0.0,
        on_pair=told.append,
    )
    assert result.dropped_pairs == 0
    assert len(told) == result.pairs


def test_a_collection_by_whoever_is_told_of_a_pair_drops_the_one_after_it(small_heap):
    told = []

    def collects_once(pair):
        told.append(pair)
        if pair.index == 1:
            gc.collect()

    measure_speedup(
        *arms(), min_ratio=0.5, clock=OneSecond(), now=lambda: 0.0, on_pair=collects_once
    )
    assert told[2].dropped == "a full garbage collection ran just before"
    assert told[1].dropped is None


def test_the_collector_is_off_from_the_first_call_of_a_pair_to_the_end_of_the_second():
    seen = []

    class Looking(OneSecond):
        def time(self, call):
            seen.append(gc.isenabled())
            return super().time(call)

    from contextlib import contextmanager

    @contextmanager
    def running():
        seen.append(gc.isenabled())
        yield
        seen.append(gc.isenabled())

    base, fast = Arm("base", lambda: None, running), Arm("fast", lambda: None, running)
    for _ in itertools.islice(measure_rounds([[base, fast]], Looking(), seed=0), 3):
        assert gc.isenabled()
    assert seen == [False] * 18


def false_passes(dropping, *, gates=300, pairs=200):
    """The share of gates that pass where the true median ratio is the threshold.

    The candidate takes 1 s or 6 s, whichever, so that its ratio is on either side of the threshold
    as often as on the other.
    """
    passed = 0
    for seed in range(gates):
        chance = random.Random(seed)
        gate, dropped = SpeedupGate(0.5), 0
        for asked in range(1, pairs + 1):
            candidate_s = chance.choice([1.0, 6.0]) * chance.uniform(0.95, 1.05)
            baseline_s = 1.225 * chance.uniform(0.95, 1.05)
            allowed = dropped + 1 <= max(ALWAYS_ALLOWED, MAX_SHARE * asked)
            if chance.random() < dropping(baseline_s + candidate_s) and allowed:
                dropped += 1
            elif gate.update(baseline_s, candidate_s) is not None:
                break
        passed += gate.decision is Decision.PASS
    return passed / gates


def test_dropping_pairs_on_grounds_from_before_keeps_the_error_rate():
    # 5 % of 300 with three standard deviations of a binomial on top.
    assert false_passes(lambda pair_s: 1 / 6) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_dropping_the_pairs_that_were_hit_would_not():
    """Why no rule looks into a pair: events of a constant rate hit the long calls."""
    during = false_passes(lambda pair_s: 1 - math.exp(-0.05 * pair_s))
    assert during > 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_warm_call_of_the_same_arm_goes_before_each_timed_one():
    calls = []
    clock = OneSecond()
    base = Arm("base", lambda: calls.append("base") or "base")
    fast = Arm("fast", lambda: calls.append("fast") or "fast")
    for _ in itertools.islice(
        measure_rounds([[base, fast]], clock, seed=2, discard_warm_call=True), 3
    ):
        pass
    assert calls == [name for name in clock.calls for _ in range(2)]


def test_the_budget_pays_for_discarded_calls_and_the_result_says_that_there_were_some():
    result, _ = measure([], discard_warm_call=True, budget_s=19.0)
    assert result.discard_warm_call
    assert result.pairs == 0
    assert "holds 4 pairs of 4 s" in result.reason
    result, _ = measure([], budget_s=19.0)
    assert not result.discard_warm_call
    assert result.pairs == 5

"""Measuring a speedup on scripted clocks: no test here waits for real time."""

import itertools
import math
import re
from dataclasses import replace

import pytest

from pytest_diffspeed import measure_speedup
from pytest_diffspeed.accelerators.catalog.cpu import WallClock
from pytest_diffspeed.common.errors import MeasurementError, UsageError
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.timing.arm import Arm
from pytest_diffspeed.timing.rounds import measure_rounds, random_orders
from tests.clocks import ScriptedClock


def arms():
    return Arm("base", lambda: "base"), Arm("fast", lambda: "fast")


def measure(clock, **options):
    base, fast = arms()
    options.setdefault("min_ratio", 1.5)
    return measure_speedup(base, fast, clock=clock, now=lambda: 0.0, **options)


def test_a_clear_speedup_passes_after_five_pairs():
    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    result = measure(clock)
    assert result.verdict is VerdictKind.PASS
    assert result.pairs == 5
    assert result.ratio == pytest.approx(2.0)
    assert result.low >= 1.5


def test_a_clear_miss_fails_after_five_pairs():
    clock = ScriptedClock(base=itertools.repeat(1.2), fast=itertools.repeat(1.0))
    result = measure(clock)
    assert result.verdict is VerdictKind.FAIL
    assert result.pairs == 5
    assert result.high < 1.5


def test_an_undecided_ratio_is_inconclusive_when_the_budget_ends():
    seconds = itertools.count()
    base, fast = arms()
    clock = ScriptedClock(base=itertools.cycle([1.4, 1.6]), fast=itertools.repeat(1.0))
    result = measure_speedup(
        base, fast, min_ratio=1.5, clock=clock, budget_s=30.0, now=lambda: float(next(seconds))
    )
    assert result.verdict is VerdictKind.INCONCLUSIVE
    assert 5 <= result.pairs <= 30


def test_a_budget_that_cannot_decide_is_said_before_anything_is_measured():
    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    result = measure(clock, budget_s=10.0)
    assert result.verdict is VerdictKind.INCONCLUSIVE
    assert result.pairs == 0
    assert "holds 3 pairs of 3 s" in result.reason
    assert "--diffspeed-budget=31" in result.reason
    assert math.isnan(result.ratio)


def test_a_machine_that_became_slower_than_its_warm_up_is_told_of_a_budget():
    """Fewer pairs than any verdict takes say nothing of how near the ratio is."""
    now = itertools.count(0, 25)
    base, fast = arms()
    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    result = measure_speedup(
        base, fast, min_ratio=1.5, clock=clock, budget_s=60.0, now=lambda: float(next(now))
    )
    assert 0 < result.pairs < 5
    assert (result.verdict, result.needed_budget_s) == (VerdictKind.INCONCLUSIVE, 121)
    assert result.reason.endswith("a verdict needs at least 5: --diffspeed-budget=121")


def test_the_automatic_budget_makes_room_for_twelve_pairs_of_slow_calls():
    clock = ScriptedClock(base=itertools.repeat(20.0), fast=itertools.repeat(10.0))
    assert measure(clock, budget_s=None).budget_s == pytest.approx(360.0)


def test_compilation_in_the_first_call_is_kept_apart_from_the_ratio():
    clock = ScriptedClock(
        base=itertools.repeat(2.0), fast=itertools.chain([60.0], itertools.repeat(1.0))
    )
    result = measure(clock)
    assert result.candidate_warm_up.first_call_s == 60.0
    assert result.candidate_warm_up.steady_s == 1.0
    assert result.ratio == pytest.approx(2.0)


def test_which_arm_runs_first_does_not_depend_on_what_ran_before():
    """Orders balanced over some rounds give the last of them away."""
    base, fast = arms()

    class SecondIsSlower:
        calls = 0

        def time(self, call):
            call()
            self.calls += 1
            return (1.3 if self.calls % 2 == 0 else 1.0), None

    rounds = itertools.islice(measure_rounds([[base, fast]], SecondIsSlower(), seed=3), 4000)
    pairs = [round_.pair(0, 1) for round_ in rounds]
    first = [pair.candidate_first for pair in pairs]
    slower = [pair.candidate_s > pair.baseline_s for pair in pairs]
    assert slower == [not is_first for is_first in first]
    by_past = {}
    for at in range(3, len(first)):
        by_past.setdefault(tuple(first[at - 3 : at]), []).append(first[at])
    assert len(by_past) == 8
    for coins in by_past.values():  # about 500 each: 4 standard deviations are 0.09
        assert 0.41 < sum(coins) / len(coins) < 0.59


@pytest.mark.parametrize("arms", [2, 3, 5])
def test_orders_are_random_and_reproduced_by_their_seed(arms):
    first = list(itertools.islice(random_orders(arms, 7), 2000))
    assert first == list(itertools.islice(random_orders(arms, 7), 2000))
    assert first != list(itertools.islice(random_orders(arms, 8), 2000))
    assert all(sorted(order) == list(range(arms)) for order in first)
    for one, other in itertools.combinations(range(arms), 2):
        earlier = sum(order.index(one) < order.index(other) for order in first)
        assert 900 < earlier < 1100  # 4.5 standard deviations


def test_each_measurement_draws_its_orders_and_tells_their_seed():
    seeds = {
        measure(ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))).seed
        for _ in range(3)
    }
    assert len(seeds) == 3
    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    assert measure(clock, seed=7).seed == 7


def test_every_pair_is_told_as_it_happens():
    told = []
    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    result = measure(clock, on_pair=told.append)
    assert [pair.index for pair in told] == list(range(result.pairs))


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_that_cannot_be_is_an_error_that_names_the_arm(seconds):
    clock = ScriptedClock(base=itertools.repeat(1.0), fast=itertools.repeat(seconds))
    with pytest.raises(MeasurementError, match=r"arm 'fast': the clock gave .* call number 1"):
        measure(clock)


def test_a_clock_that_runs_backwards_is_an_error():
    ticks = iter([5.0, 4.0])
    with pytest.raises(MeasurementError, match=r"the clock gave -1\.0 seconds"):
        Arm("base", lambda: None).timed_call(WallClock(now=lambda: next(ticks)))


def test_an_arm_that_raises_in_its_ninth_call_is_named_and_its_pairs_are_told():
    told, calls = [], itertools.count(1)

    def breaks_later():
        if next(calls) == 9:
            raise RuntimeError("device lost")
        return "fast"

    clock = ScriptedClock(base=itertools.cycle([1.4, 1.6]), fast=itertools.repeat(1.0))
    with pytest.raises(
        MeasurementError, match="'candidate' raised in its call number 9: RuntimeError: device lost"
    ) as raised:
        measure_speedup(
            lambda: "base", breaks_later, min_ratio=1.5, clock=clock, on_pair=told.append
        )
    assert raised.value.next_step == MeasurementError.NEXT_STEP  # no words of the call's
    assert len(told) in (4, 5)  # the failing call may have been the first or second of its pair


def test_outputs_of_other_shapes_are_not_compared():
    class Output(str):
        shape: tuple

    def output(name, shape):
        value = Output(name)
        value.shape = shape
        return value

    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    with pytest.raises(MeasurementError, match=r"returns shape \(1, 3, 32, 32\) and"):
        measure_speedup(
            lambda: output("base", (1, 3, 64, 64)),
            lambda: output("fast", (1, 3, 32, 32)),
            min_ratio=1.5,
            clock=clock,
        )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ((1, 3), None, "arm 'candidate' returns nothing with a shape and arm 'baseline' shape"),
        ([(4, 4)], [(1, 1)], "returns shape"),
        ([(4, 4)], [(4, 4), (4, 4)], "returns shape"),
    ],
)
def test_outputs_of_other_kinds_are_not_compared(first, second, said):
    class Tensor:
        def __init__(self, shape):
            self.shape = shape

    def output(shapes):
        if isinstance(shapes, list):
            return [Tensor(shape) for shape in shapes]
        return None if shapes is None else Tensor(shapes)

    class OneSecond:
        def time(self, call):
            return 1.0, call()

    with pytest.raises(MeasurementError, match=said):
        measure_speedup(
            lambda: output(first), lambda: output(second), min_ratio=1.5, clock=OneSecond()
        )


def test_a_result_reads_as_three_lines():
    clock = ScriptedClock(base=itertools.repeat(2.0), fast=itertools.repeat(1.0))
    result = measure(clock)
    first, second, third = str(result).splitlines()
    assert re.fullmatch(
        rf"PASS: 2\.000× \[2\.000, (2\.000|∞)\], need ≥ 1\.5×; {result.pairs} pairs.*", first
    )
    assert second == "  a call: baseline 2 s, candidate 1 s"
    assert third == f"  {result.reason}"
    nothing = replace(result, pairs=0, verdict=VerdictKind.INCONCLUSIVE)
    assert str(nothing).startswith("INCONCLUSIVE: no pair was timed, need ≥ 1.5×\n")


@pytest.mark.parametrize("options", [{"min_ratio": "2"}, {"min_ratio": None}, {"alpha": "0.05"}])
def test_text_for_a_number_is_refused_by_name(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"^{name} must .*, not {value!r}"):
        measure(ScriptedClock(), **options)


def test_a_budget_must_be_positive():
    with pytest.raises(UsageError, match=r"budget_s must be .*greater than 0 .*, not 0"):
        measure_speedup(lambda: None, lambda: None, min_ratio=1.5, budget_s=0)


def test_the_garbage_collector_is_off_in_the_timed_region_only():
    import gc

    seen = []
    Arm("base", lambda: seen.append(gc.isenabled())).timed_call(WallClock())
    assert seen == [False]
    assert gc.isenabled()


async def coroutine():
    raise AssertionError("unreachable because nobody awaits it")


def generator():
    yield "image"


@pytest.mark.parametrize(
    ("function", "kind"), [(coroutine, "a coroutine"), (generator, "a generator")]
)
def test_a_function_whose_work_is_not_done_yet_is_refused(function, kind):
    """It was a PASS with a ratio of hundreds: making a coroutine takes no time."""
    with pytest.raises(UsageError, match=f"arm 'candidate' returned {kind}, so its work has not"):
        measure_speedup(lambda: "image", function, min_ratio=1.5, budget_s=1.0)

"""Process instances that differ for good: what verdict and interval say of other processes."""

import itertools
import math
import re

import pytest

from pytest_diffspeed.arms.session_options import MOST_INSTANCES
from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.statistics import BadTiming
from pytest_diffspeed.statistics.processes import MOST_PROCESSES
from pytest_diffspeed.timing.comparison import Comparison, Hypothesis
from pytest_diffspeed.timing.rounds import Pair
from pytest_diffspeed.timing.warm_up import WarmUp

NOISE = (0.0, 0.002, -0.002, 0.004, -0.004)


def compared(ratios, *, min_ratio, pairs=80, **question):
    """The result of as many process instances as there are ``ratios``, and the pairs it took."""
    comparison = Comparison(Hypothesis(min_ratio, **question), len(ratios))
    warm = (WarmUp(1.0, 1.0, 2, 1.0), WarmUp(1.0, 1.0, 2, 1.0))
    projection = comparison.projection(warm, 2.0, 160.0, 0.01)
    noise = itertools.cycle(NOISE)
    for number in range(pairs):
        turn = number % len(ratios)
        if turn == 0 and comparison.is_settled:
            break
        seconds = ratios[turn] * math.exp(next(noise))
        comparison.take(Pair(number, seconds, 1.0, candidate_first=True, instance=turn))
    return comparison.result(warm, projection=projection, seed=1)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, VerdictKind.PASS), (0.8, VerdictKind.FAIL)])
def test_processes_that_agree_decide_as_soon_as_their_pairs_do(ratio, verdict):
    result = compared([ratio] * 4, min_ratio=0.952)
    assert (result.verdict, result.pairs, result.instances) == (verdict, 8, 4)
    assert result.process_spread < 0.005
    assert (result.low >= 0.952) == (verdict is VerdictKind.PASS)


@pytest.mark.parametrize("ratios", [(1.0, 0.94, 1.01, 1.0), (0.93, 0.92, 0.90, 0.98)])
def test_processes_that_differ_are_no_verdict_about_others_however_many_pairs_they_have(ratios):
    """The pairs alone would decide: most of them lie on one side."""
    result = compared(ratios, min_ratio=0.952, pairs=400)
    assert (result.verdict, result.pairs) == (VerdictKind.INCONCLUSIVE, 400)
    assert result.low < 0.952 <= result.high
    assert result.process_spread > 0.02
    assert re.search(r"the 4 process instances differ by [34] %, so that others may", result.reason)
    assert result.reason.endswith(f"--diffspeed-instances={result.needed_instances}")
    assert 4 < result.needed_instances <= MOST_PROCESSES
    assert result.needed_budget_s is None, "more pairs would tell nothing"


def test_where_no_number_of_them_would_tell_it_says_so():
    result = compared((1.0, 0.90, 1.02, 0.99), min_ratio=0.97, pairs=400)
    assert result.verdict is VerdictKind.INCONCLUSIVE
    assert result.needed_instances is None
    assert "too close to tell, even with 16 instances" in result.reason


@pytest.mark.parametrize("processes", [1, 2])
def test_one_or_two_are_no_sample_and_the_verdict_is_theirs(processes):
    result = compared((0.99, 1.03)[:processes], min_ratio=0.97)
    assert result.verdict is VerdictKind.PASS
    assert math.isnan(result.process_spread)
    assert result.instances == processes


def test_a_process_without_a_pair_leaves_no_verdict():
    comparison = Comparison(Hypothesis(0.5), 3)
    for number in range(40):
        comparison.take(Pair(number, 1.0, 1.0, candidate_first=True, instance=number % 2))
    assert not comparison.is_decided
    warm = (WarmUp(1.0, 1.0, 2, 1.0), WarmUp(1.0, 1.0, 2, 1.0))
    projection = comparison.projection(warm, 2.0, 160.0, 0.01)
    result = comparison.result(warm, projection=projection, seed=1)
    assert result.verdict is VerdictKind.INCONCLUSIVE
    assert result.reason.startswith("a process instance has no pair that counts")


def test_pairs_of_earlier_runs_do_not_stand_for_processes_of_this_one():
    earlier = ((1.0, 1.0),) * 4
    result = compared((1.0, 0.9, 1.0, 1.02), min_ratio=0.952, pairs=400, earlier=earlier)
    assert result.verdict is VerdictKind.INCONCLUSIVE
    assert result.pairs == 404


def test_as_many_processes_as_can_be_asked_for():
    assert MOST_PROCESSES == MOST_INSTANCES


@pytest.mark.parametrize(("baseline_s", "candidate_s"), [(0.0, 1.0), (1.0, 0.0)])
def test_a_time_that_no_clock_can_have_measured_is_told_as_that(baseline_s, candidate_s):
    with pytest.raises(BadTiming, match=r"_seconds of pair 1 is zero: the clock is too coarse"):
        Comparison(Hypothesis(0.5), 3).take(Pair(0, baseline_s, candidate_s, candidate_first=True))

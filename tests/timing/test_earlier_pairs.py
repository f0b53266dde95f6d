"""Pairs of earlier runs add to those timed now, and stand for none of them."""

import pytest

from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.timing.comparison import Comparison, Hypothesis
from pytest_diffspeed.timing.rounds import Pair
from pytest_diffspeed.timing.warm_up import WarmUp

FASTER, SLOWER = (2.0, 1.0), (1.0, 2.0)


def compared(earlier, now, *, min_ratio=1.5, budget_s=60.0):
    """The result after the pairs of ``now``; they end where it is settled."""
    comparison = Comparison(Hypothesis(min_ratio, earlier=tuple(earlier), earlier_instances=1))
    warm = (WarmUp(2.0, 2.0, 2, 2.0), WarmUp(1.0, 1.0, 2, 1.0))
    projection = comparison.projection(warm, 3.0, budget_s, 0.01)
    taken = 0
    for number, (baseline_s, candidate_s) in enumerate(now):
        if comparison.is_settled:
            break
        comparison.take(Pair(number, baseline_s, candidate_s, candidate_first=True))
        taken += 1
    return comparison.result(warm, projection=projection, seed=1), taken


def test_a_pass_takes_as_many_pairs_timed_now_as_the_fewest_that_decide():
    result, taken = compared([FASTER] * 4, [FASTER] * 20)
    assert (result.verdict, taken) == (VerdictKind.PASS, 5)
    assert (result.pairs, result.earlier_pairs, result.instances) == (9, 4, 2)


def test_with_fewer_it_says_so_and_how_to_get_them():
    result, _ = compared([FASTER] * 4, [FASTER] * 3)
    assert result.verdict is VerdictKind.INCONCLUSIVE
    assert "would make it a PASS, which needs 5 timed now, most of them at or" in result.reason
    assert "and found 3: --diffspeed-budget=31" in result.reason


def test_earlier_pairs_that_would_pass_by_themselves_are_left_out():
    result, taken = compared([(10.0, 0.1)] * 40, [SLOWER] * 20)
    assert (result.verdict, taken) == (VerdictKind.FAIL, 5)
    assert (result.pairs, result.earlier_pairs, result.instances) == (5, 0, 1)
    assert "left out: 40 pairs of earlier runs, which would PASS by themselves" in result.reason
    assert result.ratio == pytest.approx(0.5)


def test_pairs_timed_now_that_show_the_contrary_decide():
    result, _ = compared([FASTER] * 4, [FASTER] + [SLOWER] * 40)
    assert (result.verdict, result.earlier_pairs) == (VerdictKind.FAIL, 0)
    assert "left out: 4 pairs of earlier runs, which the pairs timed now contradict" in (
        result.reason
    )


def test_where_half_of_them_are_below_there_is_no_pass():
    result, _ = compared([FASTER] * 4, [FASTER, SLOWER, SLOWER, FASTER, SLOWER, FASTER, SLOWER])
    assert result.verdict is VerdictKind.INCONCLUSIVE


def test_for_a_fail_they_count_at_once():
    result, taken = compared([SLOWER] * 4, [SLOWER] * 20)
    assert (result.verdict, taken, result.earlier_pairs) == (VerdictKind.FAIL, 1, 4)


def test_a_budget_without_room_for_new_ones_is_said_before_the_first():
    comparison = Comparison(Hypothesis(1.5, earlier=(FASTER, SLOWER) * 10))
    warm = (WarmUp(2.0, 2.0, 2, 2.0), WarmUp(1.0, 1.0, 2, 1.0))
    projection = comparison.projection(warm, 3.0, 9.0, 0.01)
    assert not projection.is_enough
    assert "a PASS needs 5 that are timed now: --diffspeed-budget=31" in projection.sentence


@pytest.mark.parametrize("earlier", [(), (FASTER,), (FASTER, SLOWER) * 4])
def test_without_them_or_with_mixed_ones_a_clear_case_passes(earlier):
    result, taken = compared(earlier, [FASTER] * 60)
    assert result.verdict is VerdictKind.PASS
    assert taken >= 5

"""What is said at once about a budget, after warm-up and before the first pair."""

import math

import pytest

from pytest_diffspeed.statistics import pairs_for_excess, smallest_excess
from pytest_diffspeed.timing.budget import allowed_seconds, project


def projection(**changes):
    given = {"min_ratio": 1.8, "ratio": 1.9, "noise": 0.05, "pair_s": 2.0, "budget_s": 60.0}
    return project(**{**given, **changes})


@pytest.mark.parametrize(
    ("budget_s", "round_s", "arms", "allowed_s"),
    [
        (None, 1.0, 2, 60.0),
        (None, 20.0, 2, 240.0),  # room for twelve
        (None, 1.0, 3, 120.0),
        (30.0, 20.0, 2, 30.0),  # what the user says holds
        (30.0, 1.0, 4, 90.0),
    ],
)
def test_the_seconds_that_are_allowed(budget_s, round_s, arms, allowed_s):
    assert allowed_seconds(budget_s, round_s, arms) == allowed_s


def test_the_automatic_budget_of_the_ladder_holds_twelve_rounds_too():
    assert allowed_seconds(None, 1.0, 3, auto_s=30.0) == 60.0
    assert allowed_seconds(None, 20.0, 3, auto_s=30.0) == 240.0


def test_too_few_pairs_for_any_verdict_name_the_budget_that_holds_enough():
    found = projection(budget_s=9.0)
    assert found.is_impossible
    assert not found.is_enough
    assert found.sentence == (
        "a budget of 9 s holds 4 pairs of 2 s and no verdict is possible with fewer than 5; "
        "use --diffspeed-budget=21 or more"
    )


def test_noise_that_hides_the_gap_names_the_budget_that_shows_it():
    found = projection(ratio=1.85)
    excess = math.log(1.85 / 1.8) / 0.05
    needed = pairs_for_excess(round(excess, 3))
    assert found.pairs == 30 < needed == found.needed_pairs
    assert not found.is_enough
    assert not found.is_impossible
    shown = 1.8 * math.exp(0.05 * smallest_excess(30))
    assert found.sentence == (
        "a budget of 60 s holds 30 pairs of 2 s, which at 5 % noise a pair can be expected to show "
        f"only ≥ {shown:.3g}×; the 1.85× of the warm-up take about {needed} pairs: "
        f"--diffspeed-budget={2 * needed + 1}"
    )
    assert projection(ratio=1.85, budget_s=2.0 * needed + 1).is_enough


def test_a_gap_below_the_threshold_is_told_the_other_way_round():
    found = projection(ratio=1.75)
    assert "can be expected to show only < 1." in found.sentence


def test_a_ratio_at_the_threshold_is_decided_by_no_budget():
    found = projection(ratio=1.8)
    assert found.needed_pairs is None
    assert not found.is_enough
    assert found.sentence.endswith("; the 1.8× of the warm-up are too close to the threshold")


def test_a_clear_gap_is_enough_and_an_unknown_noise_speaks_against_nothing():
    assert projection(ratio=3.0).is_enough
    assert projection(ratio=1.85, noise=math.nan).is_enough
    assert projection(ratio=1.85, noise=0.0).is_enough


def test_earlier_pairs_count():
    assert projection(ratio=1.85, earlier_pairs=500).is_enough
    few = projection(budget_s=9.0, earlier_pairs=3)
    assert (few.pairs, few.is_impossible) == (7, False)
    none = projection(budget_s=1.0, earlier_pairs=30)
    assert none.is_impossible  # not one more: nothing would be checked
    assert "holds 0 pairs of 2 s beside 30 earlier ones" in none.sentence

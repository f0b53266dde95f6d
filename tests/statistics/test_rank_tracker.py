"""A followed order statistic equals a sorted one, at O(log n) comparisons a value."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffspeed.statistics.ranks import RankTracker


@given(st.lists(st.tuples(st.floats(allow_nan=False), st.floats(0, 1)), min_size=1, max_size=80))
def test_it_is_the_rank_th_largest(steps: list[tuple[float, float]]) -> None:
    tracker, values = RankTracker(), []
    for value, where in steps:
        values.append(value)
        rank = 1 + round(where * (len(values) - 1))
        assert tracker.add(value, rank) == sorted(values, reverse=True)[rank - 1]
        assert len(tracker) == len(values)


@pytest.mark.parametrize("rank", [0, 2, -1])
def test_a_rank_that_is_not_there(rank: int) -> None:
    tracker = RankTracker()
    with pytest.raises(ValueError, match=r"rank must lie in 1\.\.1"):
        tracker.add(1.0, rank)


class Counted(float):
    comparisons = 0

    def __lt__(self, other: object) -> bool:
        Counted.comparisons += 1
        return float(self) < float(other)  # type: ignore[arg-type]

    def __neg__(self) -> Counted:
        return Counted(-float(self))


@pytest.mark.parametrize("pairs", [1000, 10_000])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_ten_thousand_values_cost_log_n_each(pairs: int, order: str) -> None:
    values = [random.Random(1).random() for _ in range(1)] and [
        random.Random(seed).random() for seed in range(pairs)
    ]
    if order != "random":
        values.sort(reverse=order == "falling")
    Counted.comparisons = 0
    tracker = RankTracker()
    for n, value in enumerate(values, start=1):
        tracker.add(Counted(value), 1 + n // 2)
    assert Counted.comparisons <= 6 * pairs * math.log2(pairs)

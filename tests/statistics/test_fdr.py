"""e-BH against its definition."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffspeed.statistics import benjamini_hochberg_e


def by_definition(e_values: list[float], level: float) -> int:
    count = len(e_values)
    ordered = sorted(e_values, reverse=True)
    return max((k for k in range(1, count + 1) if ordered[k - 1] >= count / (level * k)), default=0)


@given(
    st.lists(st.floats(0, 1e4) | st.sampled_from([20.0, 40.0, 60.0]), max_size=30),
    st.sampled_from([0.05, 0.1, 0.5]),
)
def test_the_largest_are_selected(e_values: list[float], level: float) -> None:
    selected = benjamini_hochberg_e(e_values, level)
    assert len(selected) == len(e_values)
    assert sum(selected) == by_definition(e_values, level)
    inside = [e for e, chosen in zip(e_values, selected, strict=True) if chosen]
    outside = [e for e, chosen in zip(e_values, selected, strict=True) if not chosen]
    assert not inside or not outside or min(inside) >= max(outside)


def test_examples() -> None:
    assert benjamini_hochberg_e([], 0.05) == ()
    assert benjamini_hochberg_e([20.0], 0.05) == (True,)
    assert benjamini_hochberg_e([19.9], 0.05) == (False,)
    assert benjamini_hochberg_e([1.0, 40.0], 0.05) == (False, True)
    assert benjamini_hochberg_e([25.0, 25.0], 0.05) == (True, True)  # each alone would need 40
    assert benjamini_hochberg_e([math.inf, 0.0], 0.05) == (True, False)


@pytest.mark.parametrize("level", [0.0, 1.0, math.nan])
def test_a_level_that_makes_no_sense(level: float) -> None:
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        benjamini_hochberg_e([1.0], level)


@pytest.mark.parametrize("e", [-1.0, math.nan])
def test_an_e_value_that_makes_no_sense(e: float) -> None:
    with pytest.raises(ValueError, match="an e-value must be a number of at least 0"):
        benjamini_hochberg_e([1.0, e], 0.05)

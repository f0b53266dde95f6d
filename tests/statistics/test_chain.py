"""Ratios that are chained: each figure with an interval that widens as it must."""

import math
from random import Random

import pytest

from pytest_diffspeed.statistics.chain import STANDARD_ERRORS, LogRatio, chained, combined

OPEN = LogRatio(0.0, math.inf, 0.02)


def in_order(node):
    return float(node)


def link(value, half=0.02):
    return LogRatio(value, half, half)


def test_a_ratio_has_the_ends_it_was_given():
    one = LogRatio.of(0.9, 0.85, None)
    assert (one.ratio, one.low, one.high) == (pytest.approx(0.9), pytest.approx(0.85), None)
    assert one.inverse().ratio == pytest.approx(1 / 0.9)
    assert (one.inverse().low, one.inverse().high) == (None, pytest.approx(1 / 0.85))
    # Open, however that is written; and one that is crossed from both sides bounds nothing.
    for low, high in ((0.0, math.inf), (None, None), (0.95, 0.95), (0.96, 0.95)):
        assert LogRatio.of(0.9, low, high).open_sides == 2
    # The median may lie outside; there is no negative half-width.
    assert LogRatio.of(0.9, 0.92, 0.95).down == 0


def test_half_widths_of_a_chain_add_in_quadrature():
    links = {(str(n), str(n + 1)): LogRatio(-0.01, 0.03, 0.01) for n in range(16)}
    ((*_, last),) = chained(links, in_order)
    assert last.node == "16"
    assert last.total.value == pytest.approx(-0.16)
    assert (last.total.down, last.total.up) == pytest.approx((0.12, 0.04))


def test_a_link_counts_in_both_directions():
    """A revision behind the base: the second commit is the base of the first and of the third."""
    links = {("2", "1"): LogRatio(0.1, 0.01, 0.02), ("2", "3"): LogRatio(0.2, 0.03, 0.03)}
    ((first, second, third),) = chained(links, in_order)
    assert (first.total.value, first.total.up) == (0, 0)
    assert (second.total.value, second.total.down, second.total.up) == (-0.1, 0.02, 0.01)
    assert third.total.value == pytest.approx(0.1)
    assert third.total.down == pytest.approx(math.hypot(0.02, 0.03))
    ((first, _, third),) = chained(links, in_order, start="2")
    assert (first.total.value, third.total.value) == (0.1, 0.2)


def test_of_several_ways_the_narrowest_counts_and_open_ones_last():
    links = {("1", "2"): link(0.1), ("2", "3"): link(0.1), ("1", "3"): link(0.25, 0.03)}
    assert chained(links, in_order)[0][2].total.value == pytest.approx(0.2)
    links["1", "3"] = link(0.25, 0.025)
    assert chained(links, in_order)[0][2].total.value == 0.25
    links["1", "3"] = OPEN
    assert chained(links, in_order)[0][2].total.value == pytest.approx(0.2)
    links["2", "3"] = OPEN
    three = chained(links, in_order)[0][2].total
    assert (three.down, three.up) == (math.inf, 0.02)


def test_what_nothing_joins_are_chains_of_their_own():
    links = {("5", "6"): link(0.5), ("1", "2"): link(0.1), ("2", "7"): link(0.1)}
    chains = chained(links, in_order)
    assert [[reached.node for reached in chain] for chain in chains] == [
        ["1", "2", "7"],
        ["5", "6"],
    ]
    assert [chain[0].total.value for chain in chained(links, in_order, start="7")] == [-0.2, 0]
    assert chained({}, in_order) == []


def test_several_measurements_of_one_link():
    four = combined([link(0.1, 0.04)] * 4)
    assert (four.value, four.down, four.up) == pytest.approx((0.1, 0.02, 0.02))
    # The narrow one counts for more, and one with an open end for nothing.
    mixed = combined([link(0.0, 0.01), link(0.1, 0.1), OPEN, LogRatio(9.0, math.inf, math.inf)])
    assert 0 < mixed.value < 0.002
    assert combined([LogRatio(9.0, math.inf, math.inf), OPEN]) is OPEN
    # Two that exclude each other, as from two kinds of machine, are not believed twice.
    apart = combined([link(0.0, 0.01), link(0.1, 0.01)])
    assert apart.value == pytest.approx(0.05)
    assert apart.up == pytest.approx(0.05 * STANDARD_ERRORS)


def test_intervals_hold_as_often_as_those_of_their_links():
    """A thousand chains of 20 links whose intervals hold in 90 %: so does that of the last one."""
    shuffle = Random(2)
    held = 0
    for _ in range(1000):
        links = {}
        for n in range(20):
            error = shuffle.choice((0.004, 0.02))
            half = STANDARD_ERRORS * error
            links[str(n), str(n + 1)] = LogRatio(shuffle.gauss(0.001, error), half, half)
        last = chained(links, in_order)[0][-1].total
        held += last.value - last.down <= 0.02 <= last.value + last.up
    assert 880 <= held <= 920

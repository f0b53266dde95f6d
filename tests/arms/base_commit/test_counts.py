"""Counts of two trees beside each other."""

import pytest

from pytest_diffspeed.arms.counts import CountedLine, Counts
from pytest_diffspeed.gates.against_base.counts import difference


def seen(counts, *sites):
    return Counts(counts, sites)


def site(line, source="x.item()", count=1):
    return CountedLine("call", "value_read", "fast.py", line, "step", source, count)


@pytest.mark.parametrize(
    ("base", "head", "worse", "better"),
    [
        ({"unet": {"breaks": 1}}, {"unet": {"breaks": 1}}, (), ()),
        ({"unet": {"breaks": 1}}, {"unet": {"breaks": 2}}, ("unet: breaks 1 → 2",), ()),
        ({"unet": {"breaks": 1}}, {"unet": {"breaks": 0}}, (), ("unet: breaks 1 → 0",)),
        # Another component: what it has is new, but for the one graph that each has.
        (
            {"unet": {"breaks": 0, "graphs": 1}},
            {"transformer": {"breaks": 0, "graphs": 1}},
            (),
            (),
        ),
        (
            {"unet": {"breaks": 0, "graphs": 1}},
            {"transformer": {"breaks": 2, "graphs": 3}},
            ("transformer: breaks 0 → 2",),
            (),
        ),
        ({}, {"vae": {"recompiles": 1}}, ("vae: recompiles 0 → 1",), ()),
    ],
)
def test_what_is_worse_and_what_is_better(base, head, worse, better):
    found = difference(seen(base), seen(head))
    assert (found.worse, found.better) == (worse, better)


def test_memory_may_grow_a_little():
    base = seen({"call": {"peak bytes": 100}})
    assert difference(base, seen({"call": {"peak bytes": 105}}), 5.0).worse == ()
    assert difference(base, seen({"call": {"peak bytes": 106}}), 5.0).worse != ()


def test_a_line_that_moved_is_no_new_one_and_its_double_is():
    base = seen({}, site(10))
    assert difference(base, seen({}, site(12))).new == ()
    assert difference(base, seen({}, site(12), site(13))).new == (site(13),)
    assert difference(base, seen({}, site(12, count=2))).new == (site(12, count=2),)
    assert difference(seen({}, site(10), site(11)), seen({}, site(12))).gone != ()

"""Costs as data, and two of them against each other."""

import json
import math

import pytest

from pytest_diffspeed.gpucost import (
    Cost,
    CostLimits,
    GpuCostError,
    Kernel,
    compare_costs,
)
from pytest_diffspeed.gpucost.alignment import inserted

GEMM = Kernel("mm", "gemm", 100, 1000, "b16", (1, 5, 10, 10), "model.py:7")
FLASH = Kernel(
    "_scaled_dot_product_flash_attention",
    "attention",
    300,
    4000,
    "b16",
    (1, 2, 10, 10, 10),
    "model.py:9",
    evidence="modelled",
)
ADD = Kernel("add", "pointwise", 50, shape=(25,), site="model.py:8")
COPY = Kernel("_to_copy", "h2d", 8, site="model.py:3")


def in_unit(unit, flops=1000):
    return Kernel("mm", "gemm", 100, flops, unit, (1, 5, 10, 10), "model.py:7")


def failed(base, head, **limits):
    return [figure.name for figure in compare_costs(base, head, CostLimits(**limits)).failed]


def test_figures_of_a_cost():
    figures = Cost((GEMM, FLASH, ADD, COPY), graphs=1, breaks=("here",)).figures()
    assert {name: value for name, value in figures.items() if value} == {
        "kernels": 3,  # a copy from the host is none
        "bytes": 450,
        "flops": 5000,
        "flops.b16": 5000,
        "attention": 1,
        "attention.flash": 1,
        "graphs": 1,
        "breaks": 1,
        "h2d": 1,
        "kind.pointwise": 1,
        "kind.gemm": 1,
        "kind.attention": 1,
        "kind.h2d": 1,
    }
    assert list(figures) == list(Cost().figures())


def test_costs_add_up():
    one = Cost((GEMM,), graphs=1, breaks=("here",), notes=("said",), launches_in_code=1)
    both = one + Cost((ADD,), notes=("said", "more"))
    assert both.kernels == (GEMM, ADD)
    assert both.notes == ("said", "more")
    assert (both.graphs, both.launches_in_code) == (1, 1)
    twenty = both.times(20)
    assert twenty.figures() == {k: 20 * v for k, v in both.figures().items()}
    assert (twenty.launches_in_code, twenty.notes) == (20, both.notes)
    assert Cost().times(3) == Cost()


def test_a_cost_survives_json():
    cost = Cost((GEMM, ADD, GEMM), graphs=2, breaks=("x",), notes=("y",), launches_in_code=3)
    written = json.dumps(cost.to_json())
    assert Cost.from_json(written) == Cost.from_json(json.loads(written)) == cost
    assert len(json.loads(written)["kernels"]) == 2  # equal ones are written once


@pytest.mark.parametrize("written", ["{}", "[1]", '{"kernels": [1]}', "no JSON", "null"])
def test_other_json_is_refused(written):
    with pytest.raises(GpuCostError, match="not a GPU cost"):
        Cost.from_json(written)


def test_lines_do_not_count_in_the_fingerprint():
    moved = Kernel(**{**vars(GEMM), "site": "model.py:70"})
    assert Cost((GEMM,)).fingerprint() == Cost((moved,)).fingerprint()
    assert Cost((GEMM, ADD)).fingerprint() != Cost((ADD, GEMM)).fingerprint()


def test_nothing_changed():
    comparison = compare_costs(Cost((GEMM, ADD)), Cost((GEMM, ADD)))
    assert comparison.passes
    assert comparison.more == comparison.less == comparison.improved == ()
    assert not comparison.differs_only_by_hash


def test_another_order_is_shown_and_not_failed():
    comparison = compare_costs(Cost((GEMM, ADD)), Cost((ADD, GEMM)))
    assert comparison.passes
    assert comparison.differs_only_by_hash


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("i8", "b16", ["flops.b16+"]),
        ("f8", "b16", ["flops.b16+"]),
        ("b16", "f32", ["flops.f32+", "flops.tf32+"]),
        ("tf32", "f32", ["flops.f32+"]),
        ("f32", "f64", ["flops.f64+"]),
        ("b16", "i8", []),
        ("f32", "b16", []),
        ("i8", "f8", []),
    ],
)
def test_flops_that_move_to_a_costlier_type_are_growth(before, after, names):
    assert failed(Cost((in_unit(before),)), Cost((in_unit(after),))) == names


def test_a_fall_in_one_type_pays_for_no_rise_in_another():
    base = Cost((in_unit("b16", 10_000), in_unit("f32", 100)))
    head = Cost((in_unit("b16", 5_000), in_unit("f32", 101)))
    comparison = compare_costs(base, head)
    assert [figure.name for figure in comparison.failed] == ["flops.f32+", "flops.tf32+"]
    assert [figure.name for figure in comparison.improved] == ["flops", "flops.b16+"]


def test_a_fall_in_bytes_pays_for_no_kernel():
    small = Kernel("mul", "pointwise", 1, shape=(1,))
    base, head = Cost((ADD,)), Cost((small, small))
    assert failed(base, head) == ["kernels"]
    assert [f.name for f in compare_costs(base, head).improved] == ["bytes"]


@pytest.mark.parametrize(
    ("limit", "grown", "fails"),
    [
        ("1%", 1010, False),
        ("1%", 1011, True),
        (10, 1010, False),
        (10, 1011, True),
        (None, 1e9, False),
    ],
)
def test_a_limit_is_a_number_or_a_share(limit, grown, fails):
    base, head = (Cost((Kernel("add", "pointwise", int(n)),)) for n in (1000, grown))
    assert failed(base, head, bytes=limit) == (["bytes"] if fails else [])


@pytest.mark.parametrize("limit", ["1", "x%", "-1%", -1, math.nan, math.inf, True, "", [], "nan%"])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(GpuCostError, match=r"bytes=.* is not a limit"):
        CostLimits(bytes=limit)


BMM = Kernel("bmm", "gemm", 100, 2000, "b16", (2, 10, 10, 10))
EFFICIENT = Kernel("_scaled_dot_product_efficient_attention", "attention", 300, 4000, "b16")


@pytest.mark.parametrize(
    ("head", "lost"),
    [
        ((FLASH, FLASH), 0),
        ((FLASH, BMM, BMM), 1),
        ((BMM, BMM, BMM, BMM), 2),
        ((FLASH, EFFICIENT), 1),
        ((EFFICIENT, BMM, BMM), 2),
        ((FLASH,), 0),  # simply gone, as half of the guidance is
        ((FLASH, FLASH, BMM), 0),
    ],
)
def test_attentions_that_are_lost(head, lost):
    figures = compare_costs(Cost((FLASH, FLASH)), Cost(head)).figures
    assert next(f.head for f in figures if f.name == "attention lost") == lost


def test_fused_projections_hide_no_lost_attention():
    base, head = Cost((FLASH, GEMM, GEMM, GEMM)), Cost((GEMM, BMM, BMM))
    assert "attention lost" in failed(base, head, kernels=9, bytes=None, flops=None)


def test_kernels_are_compared_as_a_multiset_with_their_lines():
    other = Kernel(**{**vars(ADD), "site": "model.py:80"})
    comparison = compare_costs(Cost((ADD, GEMM)), Cost((ADD, other, GEMM)))
    (more,) = comparison.more
    assert (more.kind, more.name, more.shape, more.number) == ("pointwise", "add", (25,), 1)
    assert more.lines == ("model.py:80",)
    assert comparison.less == ()


def moved_down(kernel, lines=1):
    file, _, line = kernel.site.partition(":")
    return Kernel(**{**vars(kernel), "site": f"{file}:{int(line) + lines}"})


def test_a_line_more_at_the_top_of_a_file_hides_no_new_kernel():
    base = [ADD, GEMM, ADD, FLASH, GEMM]
    new = Kernel(**{**vars(ADD), "site": "model.py:99"})
    head = [moved_down(kernel) for kernel in base]
    head.insert(4, new)
    (more,) = compare_costs(Cost(tuple(base)), Cost(tuple(head))).more
    assert more.lines == ("model.py:99",)


def test_counts_that_differ_throughout_are_not_aligned():
    base = [Kernel(f"one{n}", "pointwise") for n in range(1001)]
    head = [Kernel(f"two{n}", "pointwise", site="model.py:1") for n in range(1001)]
    assert inserted(base, head) is None
    more = compare_costs(Cost(tuple(base[:3])), Cost(tuple(head))).more
    assert len(more) == 1001
    assert more[0].lines == ("model.py:1",)


@pytest.mark.parametrize(
    ("base", "head", "new"),
    [
        ("abc", "abc", ""),
        ("abc", "abxc", "x"),
        ("aaa", "aaaa", "a"),
        ("abc", "ac", ""),
        ("", "ab", "ab"),
        ("abcd", "axcyd", "xy"),
    ],
)
def test_what_was_put_in(base, head, new):
    one, other = ([Kernel(name, "pointwise") for name in names] for names in (base, head))
    assert "".join(kernel.name for kernel in inserted(one, other)) == new


def test_two_more_of_a_line_name_it():
    (more,) = compare_costs(Cost((ADD,)), Cost((ADD, ADD, ADD))).more
    assert (more.number, more.lines, more.bytes) == (2, ("model.py:8",), 100)


@pytest.mark.parametrize(
    ("change", "more"),
    [
        ({"unit": "f32"}, (0, 0, ("b16 → f32",))),
        ({"bytes": 900}, (800, 0, ())),
        ({"flops": GEMM.flops + 1, "site": "model.py:7"}, (0, 1, ())),
    ],
)
def test_the_same_kernels_that_ask_for_more_come_with_their_lines(change, more):
    """Of one kind, name and shape: a costlier type, more bytes, a wider filter."""
    heavy = Kernel(**{**vars(GEMM), "bytes": 100, **change})
    light = Kernel(**{**vars(GEMM), "bytes": 100})
    comparison = compare_costs(Cost((light, light, ADD)), Cost((light, heavy, ADD)))
    assert comparison.more == comparison.less == ()
    (heavier,) = comparison.heavier
    assert (heavier.name, heavier.number) == ("mm", 1)
    assert heavier.lines == (heavy.site,)
    assert (heavier.bytes, heavier.flops, heavier.types) == more
    assert compare_costs(Cost((heavy,)), Cost((light,))).heavier == ()


def test_new_graph_breaks_are_told_and_moved_ones_are_not():
    one, moved, other = (f"a print at model.py:{line}" for line in (5, 6, 9))
    assert compare_costs(Cost(breaks=(one,)), Cost(breaks=(one, other))).new_breaks == (other,)
    assert compare_costs(Cost(breaks=(one,)), Cost(breaks=(moved,))).new_breaks == ()


def called(line, path, route="of its package", **change):
    known = {"called_from": f"mine.py:{line}", "path": path, "route": route}
    return Kernel(**{**vars(ADD), **known, **change})


@pytest.mark.parametrize(
    ("head", "new"),
    [
        ([called(3, "y = part(x)"), called(4, "part(x)")], "mine.py:3"),
        ([called(4, "part(x)"), called(5, "y = part(x)")], "mine.py:5"),
        # The call that there was has a wrapper now; the package's lines tell which it is.
        ([called(5, "wrapper"), called(9, "new", route="another")], "mine.py:9"),
        ([called(9, "new", route="another"), called(5, "wrapper")], "mine.py:9"),
    ],
)
def test_a_line_that_calls_once_more_is_told_from_one_that_moved(head, new):
    base = Cost((GEMM, called(3, "part(x)"), GEMM))
    (more,) = compare_costs(base, Cost((GEMM, *head, GEMM))).more
    assert more.lines == (new, ADD.site)


def test_lines_that_lead_to_kernels_as_none_did_are_told_whatever_is_fused_with_them():
    base = Cost((called(3, "part(x)"), called(3, "part(x)", name="mul", route="r")))
    head = Cost(
        (
            called(4, "part(x)", name="add+mul", route="of its package+r"),  # fused otherwise
            called(5, "wrapper"),
            called(6, "new", route="r+s"),
        )
    )
    assert compare_costs(base, head).new_lines == {"mine.py:5": 1, "mine.py:6": 0}
    assert compare_costs(head, base).new_lines == {}


def test_bytes_of_what_is_new_are_not_those_of_what_was_there():
    large = Kernel(**{**vars(ADD), "bytes": 5000})
    (more,) = compare_costs(Cost((large,)), Cost((large, ADD))).more
    assert (more.number, more.bytes) == (1, ADD.bytes)


def test_the_users_own_line_that_calls_a_package_comes_first():
    again = Kernel(**{**vars(ADD), "called_from": "mine.py:3"})
    (more,) = compare_costs(Cost((ADD,)), Cost((ADD, again))).more
    assert more.lines == ("mine.py:3", "model.py:8")

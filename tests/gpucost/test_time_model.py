"""Modelled seconds: what they are made of, what they refuse, and the error that they come with."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_diffspeed.gpucost import (
    ERRORS,
    RESOLUTION,
    Cost,
    GpuCostError,
    Kernel,
    fastest_possible,
    modelled_ratio,
    modelled_time,
    most_a_sync_costs,
    most_anything_saves,
    most_saved,
    named_gpu,
)
from pytest_diffspeed.gpucost.time_constants import constants_of, drawn
from pytest_diffspeed.gpucost.time_model import tiling

A100, H100 = named_gpu("a100"), named_gpu("h100")
VALUES = {name: one.value for name, one in constants_of(A100).items()}
PAGE = Path(__file__).parents[2] / "docs/gpu_cost_time.md"

SHAPE = (1, 8192, 8192, 8192)
PRODUCT = Kernel("mm", "gemm", 3 * 2 * 8192**2, 2 * 8192**3, "b16", SHAPE, "a.py:1")
ADD = Kernel("add", "pointwise", 10**9, shape=(10**8,), site="a.py:2")
SMALL = Kernel("silu", "pointwise", 1000, shape=(250,), site="a.py:3")
FUSED = Kernel("add+silu", "triton_pointwise", 10**9, shape=(10**8,), site="a.py:2")


def eager(*kernels):
    return Cost(kernels=kernels)


def compiled(*kernels):
    return Cost(kernels=kernels, graphs=1)


def gpu_s(*kernels, **values):
    return modelled_time(eager(*kernels), A100, {**VALUES, **values}).gpu_s


def test_a_product_takes_its_flops_at_a_share_of_the_peak():
    peak = A100.flops_per_s["b16"] * VALUES["gemm"] * tiling(SHAPE, A100.multiprocessors)
    assert gpu_s(PRODUCT) == pytest.approx(PRODUCT.flops / peak + VALUES["gap_s"])


def test_a_product_in_another_type_has_a_share_of_its_own():
    own = gpu_s(PRODUCT, gap_s=0)
    low = replace(PRODUCT, unit="i8")
    ratio = A100.flops_per_s["b16"] / A100.flops_per_s["i8"] / VALUES["gemm.low"]
    assert gpu_s(low, gap_s=0) == pytest.approx(ratio * own)


def test_bytes_take_as_long_as_memory_does_and_less_in_the_cache():
    rate = A100.bytes_per_s * VALUES["memory.aten"]
    assert gpu_s(ADD, gap_s=0) == pytest.approx(1e9 / rate)
    in_cache = replace(ADD, bytes=10**7)
    assert gpu_s(in_cache, gap_s=0) == pytest.approx(1e7 / rate / VALUES["l2_gain"])
    assert gpu_s(SMALL) == VALUES["floor_s"] + VALUES["gap_s"]


def test_what_libraries_add_takes_time_too():
    around = replace(ADD, hidden_launches=2, hidden_bytes=10**9)
    assert gpu_s(around, gap_s=0) == pytest.approx(2 * gpu_s(ADD, gap_s=0))


def test_the_slower_of_cpu_and_gpu_decides():
    many = modelled_time(eager(*[SMALL] * 1000), A100)
    assert many.seconds == many.cpu_s == pytest.approx(1000 * VALUES["eager_launch_s"])
    assert modelled_time(eager(ADD), A100).seconds == modelled_time(eager(ADD), A100).gpu_s
    assert modelled_time(compiled(SMALL), A100).cpu_s == VALUES["compiled_launch_s"]
    assert many.is_bound_by_launches
    assert not modelled_time(eager(ADD), A100).is_bound_by_launches


def test_launches_inside_of_a_library_cost_the_cpu_no_python():
    around = eager(replace(SMALL, hidden_launches=3))
    launches_s = VALUES["eager_launch_s"] + 3 * VALUES["compiled_launch_s"]
    assert modelled_time(around, A100).cpu_s == pytest.approx(launches_s)


@pytest.mark.parametrize(
    ("shape", "busy"),
    [
        ((1, 128 * 108, 256, 10**9), 1.0),  # one tile for each multiprocessor of an A100
        ((1, 128 * 109, 256, 10**9), 0.92 * 218 / 324),  # smaller tiles fill two waves better
        ((108, 1, 64, 10**9), 0.6 / 64),
    ],
)
def test_a_product_keeps_whole_waves_of_tiles_busy(shape, busy):
    assert tiling(shape, 108) == pytest.approx(busy, rel=1e-6)


def test_draws_are_the_same_each_time_and_in_their_ranges():
    constants = constants_of(H100)
    draws = drawn(constants)
    assert draws == drawn(constants)
    for name, one in constants.items():
        values = [draw[name] for draw in draws]
        assert one.low <= min(values) < max(values) <= one.high
        assert one.low <= one.value <= one.high


def test_equal_costs_are_exactly_as_fast():
    found = modelled_ratio(eager(PRODUCT, ADD), eager(PRODUCT, ADD), A100)
    assert (found.ratio, found.low, found.high) == (1.0, 1.0, 1.0)
    assert not found.can_be_told


def test_a_ratio_has_an_interval_and_the_error_of_its_kind():
    found = modelled_ratio(eager(PRODUCT, ADD, ADD), eager(PRODUCT, ADD), A100)
    assert 1 < found.low < found.ratio < found.high
    assert found == modelled_ratio(eager(PRODUCT, ADD, ADD), eager(PRODUCT, ADD), A100)
    assert found.error == ERRORS["eager"]
    assert modelled_ratio(compiled(FUSED), compiled(FUSED), A100).error == ERRORS["compiled"]


def test_a_small_difference_cannot_be_told():
    base = eager(*[ADD] * 100)
    assert not modelled_ratio(base, eager(*[ADD] * 96), A100).can_be_told
    assert modelled_ratio(base, eager(*[ADD] * 90), A100).can_be_told
    assert math.isclose(RESOLUTION, 0.05)


@pytest.mark.parametrize(
    ("base", "head", "sentence"),
    [
        (eager(ADD), compiled(FUSED), "one of the two is eager and the other compiled"),
        (compiled(FUSED), eager(ADD), "one of the two is eager and the other compiled"),
        (eager(ADD), eager(replace(PRODUCT, unit="i8")), "eager products in int8 or float8 are"),
        (eager(), eager(ADD), "one of the two has no kernels"),
        (
            compiled(FUSED),
            compiled(replace(PRODUCT, unit="f8")),
            "has no products in f8, which mm at a.py:1 asks for",
        ),
    ],
)
def test_what_the_model_cannot_tell_is_refused(base, head, sentence):
    with pytest.raises(GpuCostError, match=sentence):
        modelled_ratio(base, head, A100)


def test_what_has_no_time_is_said():
    opaque = Kernel("mine::op", "opaque", 100)
    copied = Kernel("_to_copy", "h2d", 100)
    assert modelled_time(eager(ADD, opaque, copied), A100).notes == (
        "1 opaque ops have the time of their bytes alone",
        "1 copies between host and device have no time here",
    )


def test_a_change_saves_at_most_what_goes():
    """Lines do not matter, and what comes in its place is taken to cost nothing."""
    base = eager(PRODUCT, ADD, ADD)
    moved = eager(replace(PRODUCT, site="b.py:9"), ADD, SMALL)
    found = most_saved(base, moved, A100)
    assert found.kernels == 1
    assert found.part_s == pytest.approx(gpu_s(ADD))
    assert found.share == pytest.approx(gpu_s(ADD) / gpu_s(PRODUCT, ADD, ADD))
    assert found.share < found.high < 1
    assert most_saved(base, base, A100).high == 0


def test_a_change_of_type_saves_no_more_than_the_bound_leaves():
    base = eager(replace(PRODUCT, unit="tf32"))
    found = most_saved(base, eager(PRODUCT), A100)
    fastest_s = fastest_possible(eager(PRODUCT), A100).seconds
    assert found.share == pytest.approx(1 - fastest_s / modelled_time(base, A100).seconds)


def test_launches_that_stay_keep_a_slow_cpu_busy():
    many = [SMALL] * 1000
    found = most_saved(eager(*many, ADD), eager(*many), A100)
    assert found.share == pytest.approx(1 / 1001)
    assert most_saved(eager(*many, ADD), compiled(*many), A100).share > 0.5


def test_a_sync_exposes_what_ran_beside_something_else():
    found = most_a_sync_costs(eager(ADD, ADD), A100)
    assert found.kernels == 2
    assert found.part_s == 2 * VALUES["eager_launch_s"]
    assert found.share == pytest.approx(found.part_s / gpu_s(ADD, ADD))
    slow_cpu = most_a_sync_costs(eager(*[SMALL] * 100), A100)
    assert slow_cpu.part_s == pytest.approx(gpu_s(*[SMALL] * 100))


def test_nothing_saves_more_than_the_bound_leaves():
    cost = eager(PRODUCT, ADD)
    found = most_anything_saves(cost, A100)
    assert found.part_s == fastest_possible(cost, A100).seconds
    assert found.share == pytest.approx(1 - found.part_s / found.seconds)


@pytest.mark.parametrize("mode", ERRORS)
def test_the_error_of_a_kind_is_that_of_the_table_of_published_ladders(mode):
    rows = [line.split(" | ") for line in PAGE.read_text("utf-8").splitlines()]
    found = [abs(float(row[5].rstrip("%"))) for row in rows if row[-1:] == [f"{mode} |"]]
    assert len(found) == ERRORS[mode].pairs
    assert max(found) / 100 <= ERRORS[mode].furthest < max(found) / 100 + 0.011  # rounded up


def test_the_table_says_why_an_eager_and_a_compiled_stack_are_refused():
    errors = re.findall(
        r"([+-][\d.]+)% \|[^|]*\| refused: eager against compiled", PAGE.read_text()
    )
    assert {round(abs(float(error))) for error in errors} == {15, 17}

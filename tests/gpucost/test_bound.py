"""The fastest that is possible: so that a claim which cannot be true is seen."""

import pytest

from pytest_diffspeed.gpucost import Cost, GpuCostError, Kernel, fastest_possible, named_gpu

A100 = named_gpu("a100")
L2 = A100.l2_bytes


def test_products_at_the_peak_of_their_type():
    cost = Cost(tuple(Kernel("mm", "gemm", 0, int(312e12), unit) for unit in ("b16", "i8")))
    bound = fastest_possible(cost, A100)
    assert bound.seconds == bound.compute_s == pytest.approx(1 + 1 / 2)
    assert bound.memory_s == 0


def test_what_the_cache_may_hold_is_not_moved():
    kernels = [Kernel("add", "pointwise", size) for size in (2 * L2, 2 * L2 + int(2039e9))]
    assert fastest_possible(Cost(tuple(kernels)), A100).memory_s == pytest.approx(1)


def test_each_kernel_takes_the_slower_of_both():
    both = Kernel("mm", "gemm", 2 * L2 + int(2039e9), int(156e12), "b16")
    bound = fastest_possible(Cost((both,)), A100)
    assert bound.seconds == pytest.approx(1)
    assert (bound.compute_s, bound.memory_s) == pytest.approx((0.5, 1))


def test_an_impossible_claim_is_seen():
    # SDXL at 1024² with guidance: 13.52 TFLOP in bfloat16 a step, as counted.
    step = Cost((Kernel("mm", "gemm", 0, int(13.52e12), "b16"),))
    bound = fastest_possible(step.times(20), A100)
    assert bound.seconds == pytest.approx(0.867, abs=1e-3)
    assert bound.share_of(0.5) > 1
    assert bound.share_of(2.86) == pytest.approx(0.30, abs=0.01)


def test_copies_from_the_host_cost_nothing():
    assert fastest_possible(Cost((Kernel("_to_copy", "h2d", 10**12),)), A100).seconds == 0


def test_a_type_that_the_gpu_does_not_have():
    cost = Cost((Kernel("_scaled_mm", "gemm", 1, 1, "f8", site="model.py:3"),))
    with pytest.raises(GpuCostError, match=r"A100.* no products in f8, .* at model\.py:3"):
        fastest_possible(cost, A100)
    assert fastest_possible(cost, named_gpu("h100")).seconds > 0


@pytest.mark.parametrize("claimed", [0, -1.0])
def test_no_time_at_all_is_no_claim(claimed):
    with pytest.raises(GpuCostError, match="seconds above 0"):
        fastest_possible(Cost(), A100).share_of(claimed)

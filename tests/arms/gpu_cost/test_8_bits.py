"""Techniques in 8 bits on an H100 that is not there: products, casts and bytes, counted."""

import pytest

from tests.arms.gpu_cost.test_count import in_one_process
from tests.counting_gpu_cost import needs_counts

pytestmark = needs_counts


@pytest.fixture(scope="module")
def counted():
    return in_one_process("tests.arms.gpu_cost.count_8_bits")


def test_float8_products_are_counted_as_such(counted):
    plain, float8 = counted["costs"]["bf16"], counted["costs"]["bf16+fp8_dynamic"]
    assert plain["scaled_mm"] == 0 < float8["scaled_mm"]
    flops = float8["figures"]
    assert flops["flops.f8"] > 0 and flops["flops.f8"] + flops["flops.b16"] == flops["flops"]
    assert flops["flops"] == plain["figures"]["flops"]


@pytest.mark.parametrize("stack", ["bf16+fp8_weight_only", "bf16+layerwise_casting"])
def test_weights_that_are_converted_cost_casts_and_no_other_products(counted, stack):
    plain, narrow = counted["costs"]["bf16"], counted["costs"][stack]
    assert narrow["casts"] > plain["casts"] and narrow["scaled_mm"] == 0
    assert narrow["figures"]["flops.b16"] == plain["figures"]["flops"]


@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_on_a_cpu_float8_tensors_are_made_as_torchao_makes_them_on_a_gpu(counted, granularity):
    assert counted["on_cpu"][granularity] == counted["on_gpu"][granularity]

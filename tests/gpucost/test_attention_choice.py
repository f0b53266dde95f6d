"""Which attention a GPU takes, re-stated: no CPU can be asked."""

import pytest
import torch

from pytest_diffspeed.gpucost import GpuCostError
from pytest_diffspeed.gpucost.attention_choice import (
    Inputs,
    choose,
    enabled_backends,
    prefers_cudnn,
)

A100, H100, L40S, B200 = (8, 0), (9, 0), (8, 9), (10, 0)
SHAPE = (2, 10, 1024, 64)


def inputs(dtype=torch.bfloat16, shape=SHAPE, **other):
    return Inputs(dtype, shape, shape, shape, **other)


def wide(width, value=None):
    query = (2, 10, 1024, width)
    return Inputs(torch.float16, query, query, (2, 10, 1024, value or width))


@pytest.mark.parametrize(
    ("given", "capability", "cudnn_first", "backend"),
    [
        (inputs(), A100, False, "flash"),
        (inputs(torch.float16), L40S, False, "flash"),
        (inputs(), H100, True, "cudnn"),
        (inputs(), H100, False, "flash"),
        (inputs(torch.float32), A100, False, "efficient"),
        (inputs(torch.float32), H100, True, "efficient"),
        (inputs(torch.float64), A100, False, "math"),
        (inputs(has_mask=True), A100, False, "efficient"),
        (inputs(has_mask=True), H100, True, "cudnn"),
        (inputs(last_is_dense=False), H100, True, "math"),
        (wide(40), A100, False, "flash"),
        (wide(44), A100, False, "flash"),  # padded to 48
        (wide(512), A100, False, "efficient"),  # the VAE's one head
        (wide(512), H100, True, "efficient"),
        (wide(510), A100, False, "math"),
        (wide(64, 128), A100, False, "efficient"),
        (inputs(shape=(10, 1024, 64)), A100, False, "math"),
    ],
)
def test_choice(given, capability, cudnn_first, backend):
    assert choose(given, capability, cudnn_first) == backend


def test_flags_are_honoured():
    with torch.nn.attention.sdpa_kernel([torch.nn.attention.SDPBackend.MATH]):
        assert enabled_backends() == {"math"}
        assert choose(inputs(enabled=enabled_backends()), A100, False) == "math"
    cudnn = frozenset({"cudnn"})
    assert choose(inputs(enabled=cudnn), A100, False) == "cudnn"
    assert choose(inputs(shape=(2, 10, 64, 20), enabled=cudnn | {"math"}), A100, False) == "math"
    without = frozenset({"efficient", "math", "cudnn"})
    assert choose(inputs(enabled=without), A100, False) == "efficient"


def test_nothing_that_is_enabled_takes_it():
    with pytest.raises(GpuCostError, match=r"no attention kernel .* \(flash\) .* with a mask"):
        choose(inputs(has_mask=True, enabled=frozenset({"flash"})), A100, False)


@pytest.mark.parametrize(
    ("capability", "version", "environment", "first"),
    [
        (H100, (2, 14), {}, True),
        (B200, (2, 13), {}, True),
        (H100, (2, 12), {}, False),
        (A100, (2, 14), {}, False),
        (L40S, (2, 14), {}, False),
        (H100, (2, 14), {"TORCH_CUDNN_SDPA_DEPRIORITIZED": "1"}, False),
        (H100, (2, 14), {"TORCH_CUDNN_SDPA_DEPRIORITIZED": "0"}, True),
    ],
)
def test_when_cudnn_comes_first(capability, version, environment, first):
    assert prefers_cudnn(capability, version, environment) == first

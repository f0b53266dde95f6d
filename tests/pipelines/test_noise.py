"""Arms of different precision start from the same noise, on every torch that is supported."""

import pytest
import torch

from pytest_diffspeed.adapters.torch_noise import rounded_noise

WAYS = {
    "randn": lambda size, dtype, made: torch.randn(size, dtype=dtype, generator=made),
    "randn on a device": lambda size, dtype, made: torch.randn(
        (size,), dtype=dtype, device=torch.device("cpu"), generator=made
    ),
    "randn_like": lambda size, dtype, made: torch.randn_like(torch.empty(size, dtype=dtype)),
}


def drawn(way, size, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return WAYS[way](size, dtype, torch.Generator("cpu").manual_seed(5))


@pytest.mark.parametrize("size", [5, 16, 21])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("way", WAYS)
def test_noise_in_half_precision_is_that_of_float32_rounded(way, dtype, size):
    with rounded_noise():
        full, half = drawn(way, size, torch.float32), drawn(way, size, dtype)
    assert half.dtype is dtype
    assert torch.equal(full.to(dtype), half)
    assert torch.equal(drawn(way, size, torch.float32), full)  # that of float32 is torch's own


def test_what_is_no_noise_of_the_cpu_s_is_left_alone():
    before = torch.randn, torch.randn_like
    with rounded_noise():
        assert torch.randn(2, 3, device="meta", dtype=torch.bfloat16).device.type == "meta"
        out = torch.empty(20, dtype=torch.bfloat16)
        assert torch.randn(20, out=out, dtype=torch.bfloat16) is out
    assert (torch.randn, torch.randn_like) == before


def test_compiled_code_that_draws_is_one_graph_and_compiled_once(fresh_dynamo):
    def noisy(x):
        return x + torch.randn_like(x) + torch.randn(3, dtype=x.dtype)

    compiled = torch.compile(noisy, fullgraph=True, backend="eager")
    with rounded_noise():
        compiled(torch.ones(3, dtype=torch.bfloat16))
    with torch.compiler.set_stance("fail_on_recompile"), rounded_noise():
        compiled(torch.ones(3, dtype=torch.bfloat16))

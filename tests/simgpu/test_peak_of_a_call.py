"""Peak memory where there is no GPU: exact bytes of tensors on the simulated one."""

import pytest
import torch
from torch.nn import functional

from pytest_diffspeed.accelerators.catalog.cuda import CudaAllocator
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.timing.memory import PeakMemory, peak_of
from pytest_diffspeed.timing.simulated_memory import simulated_peak

WEIGHTS = 4 * 64 * 64


def layer():
    return torch.nn.Linear(64, 64, bias=False).requires_grad_(False)


def test_weights_and_what_a_call_holds_at_once():
    part = layer()

    def call():
        x = torch.zeros(8, 64, device=part.weight.device)
        x = part(x)  # the peak: x and the result, 8 × 64 floats each
        return x.sum()

    before = part.weight
    peak = simulated_peak(call, {"unet": part})
    assert part.weight is before
    assert before.device.type == "cpu"
    assert peak.weight_bytes == WEIGHTS
    assert peak.allocated_bytes == WEIGHTS + 2 * 4 * 8 * 64
    assert peak.where.partition(":")[0].endswith("test_peak_of_a_call.py")
    assert peak.where.endswith("x = part(x)  # the peak: x and the result, 8 × 64 floats each")
    assert peak.evidence.startswith("simulated GPU, torch")


def test_what_is_freed_in_between_does_not_add_up():
    def call(times):
        def run():
            for _ in range(times):
                torch.zeros(1000, device=part.weight.device)

        return run

    part = layer()
    once, often = (simulated_peak(call(times), {"unet": part}) for times in (1, 5))
    assert once.allocated_bytes == often.allocated_bytes == WEIGHTS + 4000


def test_half_precision_takes_half():
    full, half = layer(), layer().to(torch.bfloat16)

    def call(part):
        return lambda: part(torch.ones(8, 64, dtype=part.weight.dtype, device=part.weight.device))

    peaks = [simulated_peak(call(part), {"unet": part}).allocated_bytes for part in (full, half)]
    assert peaks[0] == 2 * peaks[1]


def test_shared_weights_count_once_and_open_devices_do_not_count():
    part = layer()
    with SimulatedGpu() as gpu:
        other = torch.zeros(10_000, device=gpu.device)
        peak = simulated_peak(lambda: None, {"one": part, "two": part})
        assert other.numel() == 10_000
    assert peak.weight_bytes == peak.allocated_bytes == WEIGHTS
    assert peak.where is None


def test_attention_by_its_parts_holds_its_weights():
    """A fused kernel never holds the tokens × tokens matrix; the reference does."""

    def call():
        q = torch.zeros(1, 1, 64, 2, device=part.weight.device)
        return functional.scaled_dot_product_attention(q, q, q)

    part = layer()
    with torch.no_grad():
        fused = simulated_peak(call, {"unet": part}).allocated_bytes
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            parts = simulated_peak(call, {"unet": part}).allocated_bytes
    assert fused == WEIGHTS + 2 * 4 * 64 * 2
    assert parts >= WEIGHTS + 4 * 64 * 64


def test_quantized_and_moved_weights_are_refused():
    part = layer().to("meta")
    with pytest.raises(SourceError, match=r"unet\.weight is Tensor on meta"):
        simulated_peak(lambda: None, {"unet": part})


def test_the_layer_for_cuda_counts_the_same_here():
    """`CudaAllocator` is what runs on a GPU; on the simulated one both see the same bytes."""
    with SimulatedGpu() as gpu, torch.no_grad():
        part = layer().to(gpu.device)
        other = torch.zeros(500, device=gpu.device)

        def call():
            return part(torch.zeros(8, 64, device=gpu.device)).sum().item()

        with gpu.record() as log:
            allocator = CudaAllocator(Device("cuda", 0, "Simulated GPU", "simulated"))
            found = peak_of(call, WEIGHTS, allocator)
        assert other.numel() == 500
    assert found.allocated_bytes == WEIGHTS + 2 * 4 * 8 * 64
    assert found == PeakMemory(found.allocated_bytes, found.allocated_bytes + 2000)
    # It waits before and after the call, so that what is counted has happened.
    kinds = [str(event.kind) for event in log]
    assert kinds == ["synchronize", "empty_cache", "value_read", "synchronize"]

"""Peak memory of an arm, counted by an allocator that a test scripts."""

import pytest
import torch

from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.accelerators.registry import allocator_of
from pytest_diffspeed.timing.memory import PeakMemory, bytes_of, peak_of

CPU = torch.device("cpu")


class ScriptedAllocator:
    """Counts what a test allocates and frees, as torch's caching allocator does."""

    def __init__(self, resident):
        self.now = self.peak = resident

    def take(self, size):
        self.now += size
        self.peak = max(self.peak, self.now)

    def reset_peak(self):
        self.peak = self.now

    def allocated(self):
        return self.now

    def peak_allocated(self):
        return self.peak

    def peak_reserved(self):
        return 2 * self.peak


def test_the_peak_is_that_of_the_call_without_what_lay_there_before():
    allocator = ScriptedAllocator(resident=1000)  # 300 of them are the arm's own weights
    allocator.take(5000)
    allocator.take(-5000)  # an earlier peak

    def call():
        allocator.take(40)
        allocator.take(-40)
        allocator.take(25)
        allocator.take(-25)

    assert peak_of(call, 300, allocator) == PeakMemory(300 + 40, 2 * 1040)


def test_a_storage_counts_once_and_elsewhere_not():
    layer = torch.nn.Linear(4, 4, bias=False)
    tied = torch.nn.Linear(4, 4, bias=False)
    tied.weight = layer.weight
    assert bytes_of([layer, tied], CPU) == 4 * 4 * 4
    norm = torch.nn.BatchNorm1d(4)  # buffers too
    assert bytes_of([norm], CPU) == sum(
        t.numel() * t.element_size() for t in norm.state_dict().values()
    )
    assert bytes_of([layer], torch.device("meta")) == 0


@pytest.mark.parametrize(("kind", "counted"), [("cpu", False), ("cuda", True)])
def test_only_a_gpu_counts(kind, counted):
    assert (allocator_of(Device(kind, 0, kind, kind)) is not None) is counted


def test_a_quantized_weight_counts_by_what_it_is_made_of():
    """It has no storage of its own, and asking for the address of one raises."""
    from pytest_diffspeed.adapters.torchao_internals import quantize_int8_dynamic

    layers = torch.nn.Sequential(torch.nn.Linear(64, 128, bias=False))
    assert bytes_of([layers], CPU) == 64 * 128 * 4
    quantize_int8_dynamic(layers, {"0"})
    assert 64 * 128 <= bytes_of([layers], CPU) < 64 * 128 * 2  # int8, and a scale for each row

"""The ``torch.cuda`` that our CUDA code meets here."""

import pytest
import torch

from pytest_diffspeed.accelerators.catalog.cuda import CudaClock
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.simgpu import SyncKind


def test_the_cuda_clock_runs(gpu):
    clock = CudaClock(Device("cuda", 0, "Simulated GPU", "simulated"))
    # On a CPU build `cuda:0` exists as a name only, which is all that the clock needs of it.
    seconds, result = clock.time(
        lambda: torch.ones(64, 64, device=gpu.device) @ torch.ones(64, 64, device=gpu.device)
    )
    assert seconds >= 0
    assert result.shape == (64, 64)
    stamps = [clock.stamp() for _ in range(3)]
    times = clock.seconds(stamps)
    assert times[0] == 0.0
    assert times == sorted(times)


def test_the_cuda_clock_waits_outside_of_what_it_times(gpu):
    clock = CudaClock(Device("cuda", 0, "Simulated GPU", "simulated"))
    order = []
    with gpu.record(lambda: len(order)) as log:
        clock.time(lambda: order.append("call"))
    assert [event.tag for event in log] == [0, 1, 1]


def test_events(gpu):
    first, second = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with pytest.raises(ValueError, match="must be recorded"):
        first.elapsed_time(second)
    first.record()
    second.record(torch.cuda.current_stream())
    assert first.elapsed_time(second) >= 0
    assert first.query()
    with pytest.raises(ValueError, match="enable_timing=True"):
        torch.cuda.Event().elapsed_time(second)


def test_streams(gpu):
    side = torch.cuda.Stream()
    default = torch.cuda.current_stream()
    with gpu.record() as log:
        with torch.cuda.stream(side):
            assert torch.cuda.current_stream() is side
            event = torch.cuda.current_stream().record_event()
        assert torch.cuda.current_stream() is default
        default.wait_event(event)  # the device waits here, not the host
        default.wait_stream(side)
        assert not log.events
        side.synchronize()
        event.synchronize()
    assert len(log.events) == 2


def test_sync_debug_mode(gpu):
    x = torch.ones(2, device=gpu.device)
    assert torch.cuda.get_sync_debug_mode() == 0
    torch.cuda.set_sync_debug_mode("warn")
    with pytest.warns(UserWarning, match="called a synchronizing CUDA operation"):
        x.sum().item()
    torch.cuda.synchronize()  # the real mode does not see this one either
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"):
        x.sum().item()
    torch.cuda.set_sync_debug_mode(0)
    assert x.sum().item() == 2
    with pytest.raises(RuntimeError, match="expected one of"):
        torch.cuda.set_sync_debug_mode("loud")


def test_the_random_numbers_can_be_kept_and_put_back(gpu, kind):
    def draw():
        return torch.randn(3, device=gpu.device).tolist()

    module = torch.cuda if kind == "cuda" else torch.simgpu
    with torch.random.fork_rng(devices=[]), gpu.record() as log:
        module.manual_seed(4)
        assert module.initial_seed() == 4
        state, states = module.get_rng_state(gpu.device), module.get_rng_state_all()
        first = draw()
        module.set_rng_state(state, gpu.device)
        assert draw() == first
        module.set_rng_state_all(states)
        assert draw() == first
        assert draw() != first
        with torch.random.fork_rng(devices=[0], device_type=kind):
            module.manual_seed_all(4)
            assert draw() == first
        module.seed()
        assert draw() != first
        assert torch.cuda.random.get_rng_state().dtype == torch.uint8
    assert {event.kind for event in log} == {SyncKind.BLOCKING_D2H}  # those of `tolist`


def test_properties(gpu):
    assert torch.cuda.get_device_properties(0).name == torch.cuda.get_device_name()
    assert torch.cuda.current_device() == 0
    torch.cuda.empty_cache()

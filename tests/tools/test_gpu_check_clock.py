"""The check of the clock: its figures, and its CUDA branches on the simulated GPU."""

import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed.accelerators.catalog.cpu import WallClock
from pytest_diffspeed.accelerators.catalog.cuda import CudaClock
from pytest_diffspeed.accelerators.device import Device


@pytest.fixture
def tool(gpu_check_path):
    import clock_pairs
    import timing_figures
    from parts import clock

    return SimpleNamespace(figures=timing_figures, clock=clock, pairs=clock_pairs)


def event(start, end, device="CUDA", name="kernel", annotation=False):
    return SimpleNamespace(
        time_range=SimpleNamespace(start=start, end=end),
        device_type=f"DeviceType.{device}",
        name=name,
        is_user_annotation=annotation,
    )


def test_the_span_is_from_the_first_to_the_last_kernel(tool):
    events = [
        event(50.0, 60.0),
        event(10.0, 30.0),
        event(20.0, 40.0),  # beside the one before, on another stream
        event(0.0, 100.0, annotation=True),
        event(0.0, 200.0, name="Context Sync"),
        event(0.0, 500.0, device="CPU", name="aten::mm"),
    ]
    found = tool.figures.span_of(events, "CUDA")
    assert found == {
        "span_s": pytest.approx(50e-6),
        "busy_s": pytest.approx(40e-6),
        "count": 3,
    }
    assert tool.figures.span_of(events, "CPU")["count"] == 1
    assert tool.figures.span_of([], "CUDA")["count"] == 0


def test_a_real_trace_has_such_events(tool):
    activity = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[activity], acc_events=True) as profiler:
        torch.ones(8) @ torch.ones(8)
    found = tool.figures.span_of(profiler.events(), "CPU")
    assert found["count"] >= 2
    assert 0 < found["busy_s"] <= found["span_s"] < 10


@pytest.mark.parametrize(("wrong", "consistent"), [(0, True), (4, True), (5, False), (40, False)])
def test_so_many_wrong_verdicts_of_forty_break_the_promise(tool, wrong, consistent):
    found = tool.figures.rate(wrong, 40)
    assert found["consistent"] is consistent
    assert found["low"] <= wrong / 40 <= found["high"]


def test_the_noise_of_pairs_that_alternate(tool):
    found = tool.figures.noise_of([0.1, -0.1] * 10)
    assert found["autocorrelation"] == pytest.approx(-0.95)
    assert tool.figures.autocorrelation([1.0, 1.0, 1.0]) == 0.0


@pytest.fixture
def on_cuda():
    """A bench whose device is the simulated GPU; its call sleeps, as a queue that is waited for."""
    from pytest_diffspeed.simgpu import SimulatedGpu

    with SimulatedGpu() as gpu:
        kind = gpu.device.type

        def call():
            time.sleep(0.002)

        device = Device("cuda", 0, "simulated", "cuda-simulated")
        yield SimpleNamespace(
            kind="cuda",
            small=True,
            clock=CudaClock(device) if kind == "cuda" else WallClock(),
            call=call,
            denoiser=call,
            running=nullcontext,
            long=lambda function: (function, 1),
            wait=torch.cuda.synchronize,
        )


def test_events_of_our_own_are_around_those_of_the_clock(tool, on_cuda):
    check = SimpleNamespace()
    check.expect = lambda ok, found, **figures: check.__dict__.update(ok=ok, figures=figures)
    tool.clock._own_events(check, on_cuda)
    assert len(check.figures["clock_and_events_s"]) == 8
    tool.clock._against_wall(check, on_cuda, on_cuda.call)
    for clock_s, wall_s in check.figures["clock_and_wall_s"]:
        assert 0.002 <= clock_s <= wall_s


def test_few_gates_are_no_answer_on_a_gpu(tool):
    gpu, dry = SimpleNamespace(small=False), SimpleNamespace(small=True)
    assert tool.pairs._enough([{}] * 20, gpu) and not tool.pairs._enough([{}] * 19, gpu)
    assert tool.pairs._enough([{}], dry) and not tool.pairs._enough([], dry)

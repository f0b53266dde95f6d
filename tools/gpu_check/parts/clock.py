"""Decides whether CudaClock tells the truth, and whether gates on it keep their promised rate.

The same calls of the demo pipeline and of its denoiser are timed by CudaClock, by the wall clock
between two synchronizations, by events of our own and by the profiler (first to last kernel); its
stage stamps are added up.  Then the baseline is gated against itself by ``SpeedupMeasurement``.

Planted: the second arm of the gates does about 1.2 times the work of the first.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

from checks import Found, NoMeaning, Part
from clock_bench import Bench
from clock_pairs import gate_checks, record_noise, record_perturbation
from timing_figures import milliseconds, span_of, within

CALL = "clock against wall and synchronize: demo call"
DENOISER = "clock against wall and synchronize: denoiser call"
AHEAD = "clock of work that the CPU only queues"
SPANS = "clock never below the span of the kernels"
EVENTS = "clock against events of our own"
STAGES = "stage stamps add up to the call"
FLOOR = "baseline against itself: min_speedup(1.0)"
SLOWDOWN = "baseline against itself: max_slowdown(5)"
NOISES = {
    "noise of a pair: demo call": ("call", False),
    "noise of a pair: demo call after an untimed one": ("call", True),
    "noise of a pair: denoiser call": ("denoiser", False),
    "noise of a pair: denoiser call after an untimed one": ("denoiser", True),
}
NVML = "throttle reasons and SM clock are read"
PERTURBS = "what a read of the throttle reasons does to the next call"
SIDE = "work on a stream that the call does not wait for"
CHECKS = (
    *(CALL, DENOISER, AHEAD, SPANS, EVENTS, STAGES, FLOOR, SLOWDOWN),
    *(*NOISES, NVML, PERTURBS, SIDE),
)

CLOSE = 0.03
STAGES_CLOSE = 0.02
RESOLUTION_S = 50e-6
"""Kernels have the profiler's time stamps and the clock has events': two sources."""


def run(part: Part) -> None:
    part.plan(CHECKS)

    @functools.cache
    def bench() -> Bench:
        return Bench(part)

    with part.check(CALL, "within 3 % of it, in the median of 12 calls") as check:
        _against_wall(check, bench(), bench().call)
    with part.check(DENOISER, "within 3 % of it, in the median of 12 calls") as check:
        _against_wall(check, bench(), bench().denoiser)
    with part.check(AHEAD, "within 3 % of wall and synchronize, which wall alone is not") as check:
        _queued(check, bench())
    with part.check(SPANS, "clock ≥ first to last kernel of the same call, in each call") as check:
        _spans(check, bench())
    with part.check(EVENTS, "ours are never below it, and within 3 %") as check:
        _own_events(check, bench())
    with part.check(STAGES, "text encoders, steps, decode and rest within 2 % of wall") as check:
        _stages(check, bench())
    gate_checks(part, FLOOR, SLOWDOWN, bench)
    for name, (unit, untimed) in NOISES.items():
        with part.check(name) as check:
            record_noise(check, bench(), unit, untimed)
    with part.check(NVML, "both are read, before and after calls") as check:
        _nvml(check, bench())
    with part.check(PERTURBS) as check:
        record_perturbation(check, bench())
    with part.check(SIDE) as check:
        _side_stream(check, bench())


def _against_wall(check: Found, bench: Bench, function: Callable[[], object]) -> None:
    repeated, times = bench.long(function)
    rows = []
    with bench.running():
        for _ in range(12):
            bench.wait()
            began = time.perf_counter()
            seconds, _ = bench.clock.time(repeated)
            bench.wait()
            rows.append((seconds, time.perf_counter() - began))
    ratios = [seconds / wall for seconds, wall in rows]
    check.expect(
        within(ratios, CLOSE),
        f"clock ÷ wall {statistics.median(ratios):.4f} ({min(ratios):.4f} to {max(ratios):.4f}) "
        f"at {milliseconds(statistics.median(s for s, _ in rows))} a call ({times} in one)",
        calls_in_one=times,
        clock_and_wall_s=rows,
    )


def _queued(check: Found, bench: Bench) -> None:
    """A clock that stops when the call returns would be far below."""
    import torch

    size = 256 if bench.small else 4096
    matrix = torch.randn(size, size, device=bench.kind)

    def products() -> object:
        for _ in range(40):
            output = matrix @ matrix
        return output

    rows = []
    with bench.running():
        products()
        for _ in range(5):
            bench.wait()
            began = time.perf_counter()
            seconds, _ = bench.clock.time(products)
            bench.wait()
            wall = time.perf_counter() - began
            began = time.perf_counter()
            products()
            returned = time.perf_counter() - began
            bench.wait()
            rows.append((seconds, wall, returned))
    ratios = [seconds / wall for seconds, wall, _ in rows]
    early = statistics.median(returned / wall for _, wall, returned in rows)
    check.expect(
        within(ratios, CLOSE) and (bench.small or early < 0.5),
        f"clock ÷ wall {statistics.median(ratios):.4f}; the calls return after {early:.1%} of it",
        rows=rows,
    )


def _spans(check: Found, bench: Bench) -> None:
    from torch.profiler import ProfilerActivity, profile

    cuda = bench.kind == "cuda"
    activity = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, function in (("demo call", bench.call), ("denoiser call", bench.denoiser)):
        repeated, _ = bench.long(function)
        rows[name] = []
        for _ in range(3):
            with bench.running():
                bench.wait()
                with profile(activities=[activity]) as profiler:
                    seconds, _ = bench.clock.time(repeated)
                    bench.wait()
            found = span_of(profiler.events() or (), "CUDA" if cuda else "CPU")
            rows[name].append({"clock_s": seconds, **found})
    every = [row for own in rows.values() for row in own]
    short = min(row["clock_s"] - row["span_s"] for row in every)
    share = {
        name: statistics.median(row["span_s"] / row["clock_s"] for row in own)
        for name, own in rows.items()
    }
    busy = {
        name: statistics.median(row["busy_s"] / row["clock_s"] for row in own)
        for name, own in rows.items()
    }
    check.expect(
        all(row["count"] for row in every) and short >= -RESOLUTION_S,
        "; ".join(
            f"{name}: kernels span {share[name]:.1%} of the clock and run {busy[name]:.1%} of it"
            for name in rows
        )
        + f"; least clock - span {milliseconds(short)}",
        calls=rows,
    )


def _own_events(check: Found, bench: Bench) -> None:
    if bench.kind != "cuda":
        raise NoMeaning("a CPU has no device events")
    import torch

    repeated, _ = bench.long(bench.call)
    rows = []
    with bench.running():
        for _ in range(8):
            bench.wait()
            began = torch.cuda.Event(enable_timing=True)
            ended = torch.cuda.Event(enable_timing=True)
            began.record()
            seconds, _ = bench.clock.time(repeated)
            ended.record()
            bench.wait()
            rows.append((seconds, began.elapsed_time(ended) / 1000.0))
    ratios = [seconds / events for seconds, events in rows]
    check.expect(
        within(ratios, CLOSE) and max(ratios) <= 1.001,
        f"clock ÷ events {statistics.median(ratios):.4f} (at most {max(ratios):.4f})",
        clock_and_events_s=rows,
    )


def _stages(check: Found, bench: Bench) -> None:
    """``rest_s`` is what is left of the stamps' own call, so the sum is held against the wall."""
    from pytest_diffspeed.pipelines.boundaries import stage_boundaries
    from pytest_diffspeed.pipelines.observed import observe_call
    from pytest_diffspeed.timing.stages import time_stages

    walls: list[float] = []

    def call() -> object:
        began = time.perf_counter()
        output = bench.call()
        bench.wait()
        walls.append(time.perf_counter() - began)
        return output

    found = []
    with bench.running():
        boundaries = stage_boundaries(bench.pipeline, observe_call(bench.pipeline, bench.call))
        for _ in range(8):
            found.append(time_stages(call, boundaries, bench.clock)[0])
    sums, rests, rows = [], [], []
    for stages, wall in zip(found, walls, strict=True):
        parts = [stages.text_encoder_s, stages.first_step_s, stages.vae_decode_s]
        named = sum(part or 0.0 for part in parts) + sum(stages.steady_steps_s)
        sums.append((named + stages.rest_s) / wall)
        rests.append(stages.rest_s / wall)
        rows.append({**stages.as_dict(), "wall_s": wall})
    ran = all(
        row[name] is not None
        for row in rows
        for name in ("text_encoder_s", "first_step_s", "vae_decode_s", "denoiser_s")
    )
    check.expect(
        ran and within(sums, STAGES_CLOSE),
        f"sum ÷ wall {statistics.median(sums):.4f} ({min(sums):.4f} to {max(sums):.4f}), of it "
        f"{statistics.median(rests):.1%} in no stage",
        calls=rows,
    )


def _nvml(check: Found, bench: Bench) -> None:
    if bench.kind != "cuda":
        raise NoMeaning("a CPU has no NVIDIA management library")
    from pytest_diffspeed.adapters.nvml import throttle_reasons

    before = _sm_clock()
    began = time.perf_counter()
    device = bench.builder.device
    reasons = throttle_reasons(device.key, device.index)
    first_s = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(20):
        throttle_reasons(device.key, device.index)
    read_s = (time.perf_counter() - began) / 20
    with bench.running():
        for _ in range(10):
            bench.clock.time(bench.call)
        busy = throttle_reasons(device.key, device.index)
    after = _sm_clock()
    smi = _nvidia_smi()
    check.expect(
        reasons is not None and busy is not None and before is not None and after is not None,
        f"reasons {_said(busy)} after calls, {_said(reasons)} before; SM clock {before} "
        f"MHz before and {after} MHz after; a read takes {milliseconds(read_s)} (the first "
        f"{milliseconds(first_s)})",
        nvidia_smi=smi,
        read_s=read_s,
    )


def _said(reasons: str | None) -> str:
    return "not read" if reasons is None else reasons or "none"


def _sm_clock() -> int | None:
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        return int(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
    except Exception as error:  # a figure only; the check says that it is not there
        print(f"SM clock: {type(error).__name__}: {error}", flush=True)
        return None


def _nvidia_smi() -> str:
    query = "clocks_event_reasons.active,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    words = ["nvidia-smi", f"--query-gpu={query}", "--format=csv"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{type(error).__name__}: {error}"
    return (done.stdout + done.stderr).strip()


def _side_stream(check: Found, bench: Bench) -> None:
    """An event on the current stream waits for that stream alone: how much does it miss?"""
    if bench.kind != "cuda":
        raise NoMeaning("a CPU has no streams")
    import torch

    side = torch.cuda.Stream()
    size = 64 if bench.small else 4096
    matrix = torch.randn(size, size, device="cuda")

    def elsewhere() -> None:
        with torch.cuda.stream(side):
            for _ in range(20):
                matrix @ matrix

    with bench.running():
        elsewhere()
        bench.wait()
        began = time.perf_counter()
        seconds, _ = bench.clock.time(elsewhere)
        bench.wait()
        wall = time.perf_counter() - began
    check.record(
        f"the clock says {milliseconds(seconds)} where it takes {milliseconds(wall)}",
        clock_s=seconds,
        wall_s=wall,
    )

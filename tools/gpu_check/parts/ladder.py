"""Decides what the techniques buy on SDXL's denoiser at full width, each proven by the product.

Each stack is built by the product's builder from a factory source (``sdxl_cut``: what is cut is
said there), applied and proven, and its denoiser timed in interleaved rounds against fp32 and
against the step before (``SpeedupMeasurement``), with its peak memory and the seconds of its first
call.  ``compile`` runs without the search of block sizes (``quick_compile``): that takes minutes,
and is tried last, for as long as there is time.

Planted: the pipeline of the bf16 row ignores ``to`` and stays in float32.
"""

from __future__ import annotations

import functools
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import sdxl_cut
from checks import Found, NoMeaning, Part
from product_arms import ArmBuilder
from quick_compile import without_search
from time_limit import at_most
from timing_figures import milliseconds

FP32, BF16, TF32 = "fp32", "bf16", "tf32"
LAYOUT = "bf16+channels_last"
COMPILED = "bf16+channels_last+compile"
FUSED = "bf16+channels_last+fused_qkv+compile"
INT8 = "bf16+channels_last+fused_qkv+int8_dynamic+compile"
STEPS = (  # stack, the step before it, how many times as fast as fp32 at least
    (FP32, None, 0.0),
    (BF16, FP32, 1.5),
    (TF32, FP32, 1.0),
    (LAYOUT, BF16, 1.0),
    (COMPILED, LAYOUT, 1.0),
    (FUSED, COMPILED, 1.0),
    (INT8, FUSED, 1.0),
)
MEMORY = "bf16 takes less device memory than fp32"
PUBLISHED = "beside the published ladder"
SEARCHED = "compile with the guide's search of block sizes"
CHECKS = (*(stack for stack, _, _ in STEPS), MEMORY, PUBLISHED, SEARCHED)

SDXL_A100_S = {"fp32": 7.36, BF16: 4.63, COMPILED: 2.54, FUSED: 2.52, INT8: 2.43}
"""Seconds an image of SDXL on an A100, 30 steps (diffusion-fast; its fp32 had TF32 on, and its
bf16 no SDPA: with it 3.31)."""
AUTO_S = 3.0
"""Of rounds for each ratio, or what 12 rounds take."""
PRECISION = 1.05
COMPILE_S = 70.0


@dataclass
class Row:
    """What was measured of one stack."""

    arm: Any
    call_s: float
    peak_bytes: int | None
    ratios: dict[str, Any]


class Ladder:
    """The rows so far; arms stay on the device only while a later row is timed against them."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.side = sdxl_cut.place(part.work, small=part.small, device=part.device)
        self.builder = ArmBuilder(part.device, "sdxl_cut:pipeline")
        self.rows: dict[str, Row] = {}
        self.compiled = 0
        self.interrupted = False

    @functools.cached_property
    def clock(self) -> Any:
        from pytest_diffspeed.accelerators.registry import clock_for

        return clock_for(self.builder.device)

    def prepare(self, stack: str) -> Any:
        pipeline = self.builder.fresh()
        if stack == BF16 and self.part.planted:
            pipeline.to = lambda *_, **__: pipeline
        if "compile" not in stack:
            return self.builder.prepared(stack, pipeline)
        if self.part.small and self.compiled:
            raise NoMeaning("the dry run compiles once")
        self.compiled += 1
        limit = COMPILE_S if not self.part.small else 10 * COMPILE_S
        with without_search():
            return self.prepared_within(min(limit, self.part.time_left_s - 5.0), stack, pipeline)

    def prepared_within(self, seconds: float, stack: str, pipeline: Any) -> Any:
        try:
            with at_most(seconds):
                return self.builder.prepared(stack, pipeline)
        except TimeoutError:
            self.interrupted = True
            raise

    def forget(self, before: str | None) -> None:
        """Free the arms that no later row is timed against."""
        for stack, row in self.rows.items():
            later = [s for s, over, _ in STEPS if over == stack and s not in self.rows]
            if stack not in (FP32, before) and not later:
                row.arm = None
        import gc

        gc.collect()
        if self.part.device == "cuda":
            import torch

            torch.cuda.empty_cache()


def run(part: Part) -> None:
    part.plan(CHECKS)

    @functools.cache
    def ladder() -> Ladder:
        return Ladder(part)

    for stack, before, least in STEPS:
        expected = "proven"
        if least and not part.small:
            expected += f", and more than {least:g} times as fast as fp32"
        with part.check(stack, expected) as check:
            _row(check, ladder(), stack, before, least)
        if stack == BF16:
            with part.check(MEMORY, "its peak is below 0.7 of fp32's") as check:
                _memory(check, ladder())
    with part.check(PUBLISHED) as check:
        _published(check, ladder())
    with part.check(SEARCHED) as check:
        _searched(check, ladder())
    if ladder().interrupted:
        # Inductor's workers would be waited for, which are still compiling.
        sys.stdout.flush()
        os._exit(0)


def _row(check: Found, ladder: Ladder, stack: str, before: str | None, least: float) -> None:
    from pytest_diffspeed.common.errors import MissingHardwareError

    began = time.monotonic()
    try:
        arm = ladder.prepare(stack)
    except MissingHardwareError as error:
        raise NoMeaning(str(error)) from None
    built_s = time.monotonic() - began
    proofs = {proof.technique: proof.found for proof in arm.applied.proofs}
    check.record(
        f"proven: {'; '.join(proofs.values())}",
        proofs=proofs,
        proof_figures={p.technique: _short(p.figures) for p in arm.applied.proofs},
        first_call_s=arm.applied.first_call_s,
        built_s=built_s,
        compilation=vars(arm.compilation),
        latents=ladder.side,
    )
    row = _measured(ladder, arm, before)
    ladder.rows[stack] = row
    ladder.forget(before)
    over = row.ratios.get(FP32)
    ok = over is None or (ladder.part.small or over["low"] > least)
    told = [f"proven; {milliseconds(row.call_s)} for two denoiser calls"]
    told += [f"{_ratio(found)} over {name}" for name, found in row.ratios.items()]
    if row.peak_bytes is not None:
        told.append(f"peak {row.peak_bytes / 2**30:.2f} GiB")
    told.append(f"first call {arm.applied.first_call_s:.1f} s")
    check.expect(
        bool(proofs) and ok,
        "; ".join(told),
        ratios=row.ratios,
        denoiser_s=row.call_s,
        peak_bytes=row.peak_bytes,
    )


def _measured(ladder: Ladder, arm: Any, before: str | None) -> Row:
    from pytest_diffspeed.accelerators.registry import allocator_of, disturbances_of
    from pytest_diffspeed.timing.comparison import Hypothesis
    from pytest_diffspeed.timing.noise import measure_noise
    from pytest_diffspeed.timing.speedup import SpeedupMeasurement

    timed = arm.arm_of("denoiser")
    names = [name for name in dict.fromkeys((FP32, before)) if name is not None]
    there = [name for name in names if (row := ladder.rows.get(name)) and row.arm is not None]
    ratios: dict[str, Any] = {}
    if there:
        arms = [ladder.rows[name].arm.arm_of("denoiser") for name in there] + [timed]
        results = SpeedupMeasurement(
            [arms],
            [Hypothesis(1.0, n, len(there), precision=PRECISION) for n in range(len(there))],
            budget_s=None,
            auto_s=1.0 if ladder.part.small else AUTO_S,
            clock=ladder.clock,
            seed=random.SystemRandom().randrange(2**32),
            disturbances=disturbances_of(ladder.builder.device),
        ).run()
        for name, result in zip(there, results, strict=True):
            ratios[name] = {
                "ratio": result.ratio,
                "low": result.low,
                "high": result.high,
                "coverage": result.coverage,
                "pairs": result.pairs,
                "noise": result.noise,
                "over_s": result.baseline_s,
                "dropped": result.dropped_pairs,
            }
        call_s = results[0].candidate_s
    else:
        seconds = 1.0 if ladder.part.small else 2.0
        pairs = measure_noise(timed, ladder.clock, seconds=seconds)
        call_s = statistics.median(second for pair in pairs for second in pair)
    allocator = allocator_of(ladder.builder.device)
    peak = None if allocator is None else arm.peak_memory(allocator).allocated_bytes
    return Row(arm, call_s, peak, ratios)


def _ratio(found: dict[str, Any]) -> str:
    return f"{found['ratio']:.3f}× [{found['low']:.3f}, {found['high']:.3f}]"


def _short(figures: Any) -> dict[str, Any]:
    """Without long lists, such as all layers that were quantized, of which the first ten stay."""
    return {
        name: value[:10] if isinstance(value, (list, tuple)) else value
        for name, value in dict(figures).items()
    }


def _memory(check: Found, ladder: Ladder) -> None:
    if ladder.part.device != "cuda":
        raise NoMeaning("a CPU has no allocator that counts")
    peaks = {stack: ladder.rows[stack].peak_bytes or 0 for stack in (FP32, BF16)}
    if not all(peaks.values()):
        raise RuntimeError(f"a row has no peak: {peaks}")
    share = peaks[BF16] / peaks[FP32]
    check.expect(share < 0.7, f"{share:.3f} of fp32's peak", **peaks)


def _published(check: Found, ladder: Ladder) -> None:
    """Ratios to the row that the published "fp32" corresponds to, which is tf32."""
    first = TF32 if TF32 in ladder.rows else FP32
    if first not in ladder.rows:
        raise RuntimeError("no row was measured")
    ours = {s: ladder.rows[first].call_s / row.call_s for s, row in ladder.rows.items()}
    theirs = {s: SDXL_A100_S["fp32"] / seconds for s, seconds in SDXL_A100_S.items()}
    both = [f"{s} {ours[s]:.2f}× ({theirs[s]:.2f}×)" for s in theirs if s in ours and s != FP32]
    check.record(
        f"over {first} here, and of whole images of SDXL on an A100 in brackets: "
        f"{', '.join(both) or 'no row'}; cut here: {sdxl_cut.TOLD}",
        ours=ours,
        published=theirs,
        cut=sdxl_cut.SMALL if ladder.part.small else sdxl_cut.FULL,
    )


def _searched(check: Found, ladder: Ladder) -> None:
    if ladder.part.small:
        raise NoMeaning("the dry run compiles once, and searches no block sizes on a CPU")
    left = ladder.part.time_left_s - 6.0
    if left < 30:
        raise NoMeaning(f"only {left:.0f} s of this part's time were left for it")
    import torch

    for row in ladder.rows.values():
        row.arm = None
    torch.compiler.reset()  # or code that was compiled above could serve
    pipeline = ladder.builder.fresh()
    try:
        arm = ladder.prepared_within(left, COMPILED, pipeline)
    except TimeoutError:
        check.record(f"its first call and proof take more than {left:.0f} s")
        return
    check.record(f"its first call takes {arm.applied.first_call_s:.1f} s")

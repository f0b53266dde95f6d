"""Modelled times as text for a terminal, at most 100 columns wide: shown, and never gated."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from ..arms.gpu_cost.text import WIDTH, seconds, unit_of

if TYPE_CHECKING:
    from ..arms.gpu_cost.result import GpuCost
    from ..gpucost import AtMost


def ratio_lines(base: GpuCost, head: GpuCost, gpu: str) -> list[str]:
    """How many times as fast ``head`` is as ``base``, as far as a model can tell.

    Raises:
        GpuCostError: an eager and a compiled stack, or others that the model gives no ratio of.
    """
    from ..gpucost import RESOLUTION, modelled_ratio, modelled_time, named_gpu

    a_gpu = named_gpu(gpu)
    (before, name), (after, _) = unit_of(base), unit_of(head)
    found = modelled_ratio(before, after, a_gpu)
    times = [modelled_time(cost, a_gpu) for cost in (before, after)]
    told = (
        f"{found.ratio:.2f} times as fast ({found.low:.2f} to {found.high:.2f})"
        if found.can_be_told
        else f"no difference that a model can tell ({found.low:.2f} to {found.high:.2f} times)"
    )
    lines = [
        f"modelled, not measured: {name} of {head.stack} against {base.stack} on {head.gpu}",
        f"  {told}: {seconds(times[0].seconds)} → {seconds(times[1].seconds)}",
    ]
    about = [
        "from … to: 90 % of the draws of the model's constants from their ranges, equal ones for "
        "both sides. What the model leaves out is not in it: on published ladders such ratios were "
        f"off by up to {found.error.furthest:.0%} (of {found.error.pairs} pairs, which "
        "may be luck: docs/gpu_cost_time.md).",
        f"It cannot tell differences below {RESOLUTION:.0%}, eager against compiled, which kernels "
        "autotuning finds, or what a clock that throttles does. Nothing is gated by it.",
        *dict.fromkeys(note for time in times for note in time.notes),
    ]
    if any(time.is_bound_by_launches for time in times):
        about.insert(
            0,
            "The CPU is the slower one here: the time is that of its launches, which the interval "
            "knows little of, and CUDA graphs or another CPU would change it.",
        )
    return [*lines, *_wrapped(about)]


def at_most_lines(cost: GpuCost, gpu: str, head: GpuCost | None = None) -> list[str]:
    """What could matter at most in a step of ``cost``: going to ``head``, host syncs, anything."""
    from ..gpucost import most_a_sync_costs, most_anything_saves, most_saved, named_gpu

    a_gpu = named_gpu(gpu)
    unit, name = unit_of(cost)
    sync, anything = most_a_sync_costs(unit, a_gpu), most_anything_saves(unit, a_gpu)
    rows: list[tuple[str, AtMost, str, str]] = []
    if head is not None:
        saved = most_saved(unit, unit_of(head)[0], a_gpu)
        takes = f"the {saved.kernels:,} kernels that go take {seconds(saved.part_s)}"
        rows.append((f"going to {head.stack}", saved, "saves", takes))
    waits = f"{seconds(sync.part_s)}: {sync.kernels:,} launches, or the GPU's own time if less"
    rows.append(("host syncs", sync, "cost", waits))
    peaks = f"the peaks of {a_gpu.name} allow {seconds(anything.part_s)}"
    rows.append(("anything with these kernels", anything, "saves", peaks))
    lines = [
        f"what could matter at most, of {name} of {cost.stack}: {seconds(anything.seconds)} "
        "(modelled)"
    ]
    for label, found, verb, why in rows:
        row = f"  {label}: {verb} at most {found.share:.1%}, or {found.high:.1%} ({why})"
        lines += textwrap.wrap(row, WIDTH, subsequent_indent=" " * 6)
    about = (
        "The first share is by the model's values, the second by 95 % of the draws of its "
        "constants. What goes is taken to be replaced by nothing; syncs, to make CPU and GPU take "
        "turns all the time, beside the microseconds of each wait. Real ones matter less. How many "
        "syncs there are: diffspeed audit, no_gpu_syncs.",
    )
    return [*lines, *_wrapped(about)]


def _wrapped(texts: list[str] | tuple[str, ...]) -> list[str]:
    return [
        line
        for text in texts
        for line in textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
    ]

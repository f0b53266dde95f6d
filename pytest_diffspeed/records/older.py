"""What reports show of a gate, for records that do not say it themselves.

Versions before 0.2 wrote neither ``axis`` nor ``metrics``; a run that was killed wrote neither for
the gate in progress.  The tables here are those of that time: a new gate says both in its record
and is not in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from .verdict import (
    HIGHER,
    LOWER,
    RATIO,
    SECONDS,
    SIMILARITY,
    Axis,
    GateResult,
    Metric,
)

_AXES: Mapping[str, Axis] = MappingProxyType(
    {
        "no_graph_breaks": Axis.STRUCTURE,
        "no_recompiles": Axis.STRUCTURE,
        "no_gpu_syncs": Axis.STRUCTURE,
        "image_similarity": Axis.IMAGES,
        "min_speedup": Axis.RATIO,
        "max_slowdown": Axis.RATIO,
        "max_memory": Axis.MEMORY,
        "max_compile_time": Axis.TIME,
    }
)
_AXES_BY_FIGURE: Mapping[str, Axis] = MappingProxyType(
    {
        "sites": Axis.STRUCTURE,
        "components": Axis.STRUCTURE,
        "new_sites": Axis.STRUCTURE,
        "recompiles": Axis.STRUCTURE,
        "metrics": Axis.IMAGES,
        "pictures": Axis.IMAGES,
        "ratio": Axis.RATIO,
        "memory_ratio": Axis.MEMORY,
        "first_call_s": Axis.TIME,
    }
)
_LOWER_IS_BETTER = frozenset(
    {
        "mae",
        "max_abs",
        "flicker",
        "spectral_distance",
        "log_spectral_distance",
        "other_image_ratio",
        "latent_l2",
        "denoiser_l2",
        "lpips",
        "flip",
    }
)
"""Metrics of images, videos and sounds that are distances; all others measure likeness."""
_IN_DECIBELS = ("psnr", "snr", "log_spectral_distance")


def axis_of(result: GateResult) -> Axis:
    """Where reports show a gate: as its record says, else by its name, else by its figures."""
    if result.axis is not None:
        return Axis(result.axis) if result.axis in tuple(Axis) else Axis.OTHER
    known = _AXES.get(result.gate)
    if known is not None:
        return known
    found = (axis for figure, axis in _AXES_BY_FIGURE.items() if figure in result.figures)
    return next(found, Axis.OTHER)


def metrics_of(result: GateResult) -> tuple[Metric, ...]:
    """The metrics of a gate: as its record says, else from its figures."""
    if result.metrics is not None:
        return result.metrics
    figures = result.figures
    found = (_ratio, _counts, _against_base, _similarity, _seconds)
    return tuple(metric for metrics in found for metric in metrics(figures))


def _ratio(figures: Mapping[str, Any]) -> Iterator[Metric]:
    if figures.get("pairs") and "ratio" in figures:
        ends = {"low": figures.get("low"), "high": figures.get("high")}
        yield Metric("ratio", figures["ratio"], "×", HIGHER, RATIO, False, "ratio", **ends)


def _counts(figures: Mapping[str, Any]) -> Iterator[Metric]:
    for name, unit in (("breaks", "graph breaks"), ("recompiles", "recompilations")):
        if name in figures:
            yield Metric(name, figures[name], unit, series=name)
    if "memory_ratio" in figures:
        share = figures["memory_ratio"]
        yield Metric("memory_ratio", share, "× peak memory", LOWER, RATIO, False, "memory ratio")
    per_step = figures.get("per_step")
    if isinstance(per_step, list) and _is_number(figures.get("first_step")):
        outside = figures.get("outside", 0)
        once = figures["first_step"] + (outside if _is_number(outside) else 0)
        steps = [count for count in per_step if _is_number(count)]
        unit = "host syncs"
        yield Metric("syncs_first_step", once, unit, series="syncs once")
        series = "syncs a step" if steps else None
        yield Metric("syncs_per_step", max(steps, default=0), unit, series=series)


def _against_base(figures: Mapping[str, Any]) -> Iterator[Metric]:
    sites, head = figures.get("new_sites"), figures.get("head")
    if isinstance(sites, (list, tuple)) and "base" in figures:
        yield Metric(None, len(sites), "places", series="new sites")
    sums: dict[str, float] = {}
    for counts in head.values() if isinstance(head, Mapping) else ():
        for what, count in counts.items() if isinstance(counts, Mapping) else ():
            sums[what] = sums.get(what, 0) + (count if _is_number(count) else 0)
    for what, count in sums.items():
        yield Metric(what, count, what)


def _similarity(figures: Mapping[str, Any]) -> Iterator[Metric]:
    metrics = figures.get("metrics")
    for name, pair in metrics.items() if isinstance(metrics, Mapping) else ():
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
            continue
        better = LOWER if str(name).startswith(tuple(_LOWER_IS_BETTER)) else HIGHER
        unit = "dB" if name in _IN_DECIBELS else name
        for part, value in zip(("mean", "worst"), pair, strict=True):
            words = f"{name}_{part}", value, unit, better, SIMILARITY, False, f"{name} {part}"
            yield Metric(*words)


def _seconds(figures: Mapping[str, Any]) -> Iterator[Metric]:
    for name in ("baseline_s", "candidate_s", "candidate_first_call_s", "first_call_s"):
        if name in figures and ("pairs" not in figures or figures["pairs"]):
            yield Metric(name, figures[name], "s", LOWER, SECONDS, False)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

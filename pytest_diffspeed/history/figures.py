"""What of a gate is worth following over commits: ratios, counts and similarity, never seconds.

Seconds of two environments, or of two runs in two moments, say nothing about a commit; a ratio of
paired calls does.  The pairs themselves stay in the records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import GateResult

HIGHER, LOWER = "higher", "lower"
_SIMILARITY_LOWER = frozenset(
    {
        "other_image_ratio",
        "mae",
        "max_abs",
        "flicker",
        "spectral_distance",
        "log_spectral_distance",
        "latent_l2",
        "denoiser_l2",
    }
)
"""Metrics of images, videos and sounds that are distances; all others grow with similarity."""
_EXTRAS_LOWER = ("lpips", "flip")


@dataclass(frozen=True)
class Figure:
    """One figure of one gate.  ``is_counted``: without noise, so that every difference is one."""

    test: str
    stack: str
    claim: str
    figure: str
    better: str
    is_counted: bool
    value: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class _Value:
    name: str
    value: Any
    better: str = LOWER
    is_counted: bool = True
    low: Any = None
    high: Any = None


def figures_of(session: RecordedSession) -> list[Figure]:
    """The figures of a session, one for each test, claim and name: of a gate that ran again the
    last.
    """
    found: dict[tuple[str, str, str, str], Figure] = {}
    for gate in session.gates:
        for value in _values(gate):
            number, result = _number(value.value), gate.result
            if number is not None:
                found[result.test, result.stack, result.claim, value.name] = Figure(
                    test=result.test,
                    stack=result.stack,
                    claim=result.claim,
                    figure=value.name,
                    better=value.better,
                    is_counted=value.is_counted,
                    value=number,
                    low=_number(value.low),
                    high=_number(value.high),
                    verdict=str(result.verdict),
                )
    for row in session.ladder:
        for figure in _of_ladder(row):
            found[figure.test, figure.stack, figure.claim, figure.figure] = figure
    return list(found.values())


def _values(gate: RecordedGate) -> Iterator[_Value]:
    result = gate.result
    # A FAIL that is remembered repeats the figures of the session that measured them.
    if not result.verdict.reached or "remembered_from" in result.figures:
        return
    figures = result.figures
    if "new_sites" in figures and "base" in figures:
        yield _Value("new sites", _length(figures["new_sites"]))
        return
    of_gate = _BY_GATE.get(result.gate)
    if of_gate is not None:
        yield from of_gate(result)


def _ratio(result: GateResult) -> Iterator[_Value]:
    figures = result.figures
    if figures.get("pairs"):
        interval = {"low": figures.get("low"), "high": figures.get("high")}
        yield _Value("ratio", figures.get("ratio"), HIGHER, is_counted=False, **interval)


def _syncs(result: GateResult) -> Iterator[_Value]:
    figures = result.figures
    once = _number(figures.get("first_step")), _number(figures.get("outside", 0))
    if None not in once:
        yield _Value("syncs once", sum(number for number in once if number is not None))
    steps = figures.get("per_step")
    if isinstance(steps, list) and steps:
        counts = [number for number in map(_number, steps) if number is not None]
        yield _Value("syncs a step", max(counts, default=None))


def _breaks(result: GateResult) -> Iterator[_Value]:
    yield _Value("breaks", result.figures.get("breaks"))


def _recompiles(result: GateResult) -> Iterator[_Value]:
    yield _Value("recompiles", result.figures.get("recompiles"))


def _memory(result: GateResult) -> Iterator[_Value]:
    # Counted, but by an allocator whose rounding and caching differ a little from run to run.
    yield _Value("memory ratio", result.figures.get("memory_ratio"), is_counted=False)


def _similarity(result: GateResult) -> Iterator[_Value]:
    metrics = result.figures.get("metrics")
    for name, pair in metrics.items() if isinstance(metrics, Mapping) else ():
        if not (isinstance(pair, (list, tuple)) and len(pair) == 2):
            continue
        is_distance = name in _SIMILARITY_LOWER or str(name).startswith(_EXTRAS_LOWER)
        better = LOWER if is_distance else HIGHER
        for which, number in zip(("mean", "worst"), pair, strict=True):
            # The same kernels give the same picture, and others move it: noise, if seldom.
            yield _Value(f"{name} {which}", number, better, is_counted=False)


_BY_GATE: Mapping[str, Callable[[GateResult], Iterator[_Value]]] = MappingProxyType(
    {
        "min_speedup": _ratio,
        "max_slowdown": _ratio,
        "no_gpu_syncs": _syncs,
        "no_graph_breaks": _breaks,
        "no_recompiles": _recompiles,
        "max_memory": _memory,
        "image_similarity": _similarity,
    }
)


def _of_ladder(row: Mapping[str, Any]) -> Iterator[Figure]:
    """A row of the ladder has no test of its own: the ladder is one."""
    for name, over in (("over_baseline", "fp32"), ("over_previous", row.get("previous"))):
        measured = row.get(name)
        if not isinstance(measured, Mapping):
            continue
        ratio = _number(measured.get("ratio"))
        if ratio is not None:
            yield Figure(
                test="ladder",
                stack=str(row["stack"]),
                claim=f"ladder over {over} per call",
                figure="ratio",
                better=HIGHER,
                is_counted=False,
                value=ratio,
                low=_number(measured.get("low")),
                high=_number(measured.get("high")),
                verdict=str(measured.get("verdict", "")),
            )


def _length(value: object) -> int | None:
    return len(value) if isinstance(value, (list, tuple)) else None


def _number(value: object) -> float | None:
    """A finite number; anything else that a hostile file may hold there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None

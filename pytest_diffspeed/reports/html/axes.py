"""The axes of a session in the order of their reliability, and the order of verdicts.

Counted structure comes first, then images, then paired ratios, then memory, then plain seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...records.verdict import GateResult, VerdictKind


@dataclass(frozen=True)
class Axis:
    """``key`` stands in anchors, ``title`` over a section, ``head`` over a column."""

    key: str
    title: str
    head: str
    says: str


STRUCTURE = Axis("structure", "Breaks and syncs", "breaks, syncs", "counted, so the same each time")
IMAGES = Axis("images", "Images", "images", "against the fp32 baseline, worst first")
RATIO = Axis("ratio", "Ratios", "ratio", "measured in pairs of calls next to each other")
MEMORY = Axis("memory", "Memory", "memory", "counted by the device's allocator")
TIME = Axis("time", "Seconds", "seconds", "measured once, on this machine, on this day")
OTHER = Axis("other", "Other gates", "other", "of plug-ins, or of another version")

AXES = (STRUCTURE, IMAGES, RATIO, MEMORY, TIME, OTHER)

_BY_GATE: Mapping[str, Axis] = MappingProxyType(
    {
        "no_graph_breaks": STRUCTURE,
        "no_recompiles": STRUCTURE,
        "no_gpu_syncs": STRUCTURE,
        "image_similarity": IMAGES,
        "min_speedup": RATIO,
        "max_slowdown": RATIO,
        "max_memory": MEMORY,
        "max_compile_time": TIME,
    }
)
# What tells the axis of a gate that is not known by name.
_BY_FIGURE: Mapping[str, Axis] = MappingProxyType(
    {
        "sites": STRUCTURE,
        "components": STRUCTURE,
        "new_sites": STRUCTURE,
        "recompiles": STRUCTURE,
        "metrics": IMAGES,
        "pictures": IMAGES,
        "ratio": RATIO,
        "memory_ratio": MEMORY,
        "first_call_s": TIME,
    }
)

FAILED = "FAILED"
"""Of a test, not of a gate: pytest saw it fail although no gate did, as when its body raised."""

VERDICTS = (
    "FAIL",
    FAILED,
    "INCONCLUSIVE",
    "NOT_APPLICABLE",
    "PASS",
)
"""Worst first."""


def axis_of(result: GateResult) -> Axis:
    """The axis that a gate belongs to."""
    known = _BY_GATE.get(result.gate)
    if known is not None:
        return known
    found = (axis for figure, axis in _BY_FIGURE.items() if figure in result.figures)
    return next(found, OTHER)


def severity(verdict: str) -> int:
    """0 is the worst."""
    return VERDICTS.index(verdict)


def worst(verdicts: list[VerdictKind]) -> str:
    """The verdict on a test of several gates; a test of no gate is not applicable."""
    reached = [str(verdict) for verdict in verdicts if verdict.reached]
    return min(reached or [str(VerdictKind.NOT_APPLICABLE)], key=severity)

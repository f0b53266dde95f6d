"""The axes of a session in the order of their reliability, and the order of verdicts.

Counted structure comes first, then images, then paired ratios, then memory, then plain seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...records.older import axis_of as of_record
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
MEMORY = Axis(
    "memory",
    "Memory",
    "memory",
    "peak bytes, of the device's allocator or of a simulated GPU: each gate says which",
)
TIME = Axis("time", "Seconds", "seconds", "measured once, on this machine, on this day")
OTHER = Axis("other", "Other gates", "other", "of plug-ins, or of another version")

AXES = (STRUCTURE, IMAGES, RATIO, MEMORY, TIME, OTHER)
_BY_KEY: Mapping[str, Axis] = MappingProxyType({axis.key: axis for axis in AXES})

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
    return _BY_KEY[str(of_record(result))]


def severity(verdict: str) -> int:
    """0 is the worst."""
    return VERDICTS.index(verdict)


def worst(verdicts: list[VerdictKind]) -> str:
    """The verdict on a test of several gates; a test of no gate is not applicable."""
    reached = [str(verdict) for verdict in verdicts if verdict.reached]
    return min(reached or [str(VerdictKind.NOT_APPLICABLE)], key=severity)

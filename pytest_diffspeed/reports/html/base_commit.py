"""This tree against its base: the counts of both, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...records.verdict import GateResult
from ..loose import mapping, number


@dataclass(frozen=True)
class DifferenceView:
    """One count; ``change`` carries its sign."""

    what: str
    base: str
    head: str
    change: str


def is_against_base(result: GateResult) -> bool:
    """Whether a gate compares with another commit or environment."""
    figures = result.figures
    counts = isinstance(figures.get("base"), Mapping) and isinstance(figures.get("head"), Mapping)
    named = "against_base" in figures or result.claim.endswith("against base")
    return figures.get("over") == "base" or counts or named


def differences(figures: Mapping[str, Any]) -> tuple[DifferenceView, ...]:
    """Every count that either side has; nested counts are named with a dot between."""
    if not isinstance(figures.get("head"), Mapping):
        return ()
    base, head = (dict(_flat(mapping(figures.get(side)))) for side in ("base", "head"))
    return tuple(_difference(what, base.get(what), head.get(what)) for what in {**base, **head})


def _flat(counts: Mapping[str, Any], before: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in counts.items():
        if isinstance(value, Mapping) and not before.count("."):
            found += _flat(value, f"{before}{name}.")
        elif (known := number(value)) is not None:
            found.append((f"{before}{name}", known))
    return found


def _difference(what: str, base: float | None, head: float | None) -> DifferenceView:
    change = "" if base is None or head is None else f"{head - base:+g}"
    if base == head:
        change = "same"
    return DifferenceView(what, _written(base), _written(head), change)


def _written(found: float | None) -> str:
    return "—" if found is None else f"{found:g}"

"""What a gate found, in the few words that a cell of a table has room for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..common.text import plural
from ..records.older import axis_of, metrics_of
from ..records.reader import RecordedGate
from ..records.verdict import Axis, GateResult
from .loose import count, mapping, mappings, number, sequence, word
from .metric_names import short_metric_name
from .units import ratio, seconds

NOT_CHECKED = "not checked"
"""Of a gate that was tried and reached no verdict of its own, for which INCONCLUSIVE stands."""

Brief = tuple[str, float | None]
"""The words, and the number that a table sorts by."""

_COUNTS = (("breaks", "break"), ("recompiles", "recompilation"))
_MOST_MISSES = 2
"""Of a cell; the gate's own block has all of them."""


def brief_of_gate(gate: RecordedGate) -> Brief:
    """What the cell of a gate says, where it could not be checked too."""
    return (NOT_CHECKED, None) if gate.error is not None else brief(gate.result)


def brief(result: GateResult) -> Brief:
    """What the cell of a gate says; empty where it measured nothing."""
    figures = result.figures
    if "head" in figures and "worse" in figures:
        worse = len(sequence(figures["worse"]))
        return (f"{plural(worse, 'count')} worse than base" if worse else "as base"), worse
    of_axis = _BY_AXIS.get(axis_of(result))
    found = None if of_axis is None else of_axis(figures)
    if found is not None:
        return found
    for metric in metrics_of(result):  # whatever it counts, it says the unit itself
        value = number(metric.value)
        if value is not None:
            return f"{value:.4g} {metric.unit}", value
    return "", None


def _structure(figures: Mapping[str, Any]) -> Brief | None:
    tallies = [(count(figures.get(noun)), singular) for noun, singular in _COUNTS]
    steps = [count(figures.get("first_step")), *map(count, sequence(figures.get("per_step")))]
    if "per_step" in figures:
        tallies.append((sum(filter(None, steps)), "sync"))
    known = [(many, noun) for many, noun in tallies if many is not None]
    if not known:
        return None
    return ", ".join(plural(many, noun) for many, noun in known), known[0][0]


def _ratio(figures: Mapping[str, Any]) -> Brief | None:
    found = number(figures.get("ratio"))
    return (ratio(found), found) if found is not None and count(figures.get("pairs")) else None


def _memory(figures: Mapping[str, Any]) -> Brief | None:
    share = number(figures.get("memory_ratio"))
    return None if share is None else (ratio(share), share)


def _time(figures: Mapping[str, Any]) -> Brief | None:
    first = number(figures.get("first_call_s"))
    return None if first is None else (seconds(first), first)


def _images(figures: Mapping[str, Any]) -> Brief | None:
    """The limits that were missed; without one, the worst figure of the best known metric."""
    broken = mappings(figures.get("findings"))
    if broken:
        return f"{plural(len(broken), 'output')} broken", None
    missed = [_missed(miss, figures) for miss in mappings(figures.get("misses"))]
    known = [one for one in missed if one is not None]
    if known:
        words = [words for words, _ in known[:_MOST_MISSES]]
        more = len(known) - len(words)
        return ", ".join([*words, *([f"{more} more"] if more else [])]), known[0][1]
    for name in ("ssim", "psnr", "snr"):
        worst = number(_at(mapping(figures.get("metrics")).get(name), 1))
        if worst is not None:
            return f"{short_metric_name(name, figures)} {worst:.4g}", worst
    return None


def _missed(miss: Mapping[str, Any], figures: Mapping[str, Any]) -> Brief | None:
    limit, found = word(miss.get("limit")), number(miss.get("found"))
    if limit is None or found is None:
        return None
    metric, _, part = limit.rpartition("_")
    bound = number(miss.get("bound"))
    name = short_metric_name(metric, figures)
    text = f"{name} {found:.4g}" if part == "worst" else f"mean {name} {found:.4g}"
    return f"{text} of {bound:.4g}" if bound is not None else text, found


def _at(values: Any, index: int) -> Any:
    found = sequence(values)
    return found[index] if index < len(found) else None


_BY_AXIS = MappingProxyType(
    {
        Axis.STRUCTURE: _structure,
        Axis.IMAGES: _images,
        Axis.RATIO: _ratio,
        Axis.MEMORY: _memory,
        Axis.TIME: _time,
    }
)

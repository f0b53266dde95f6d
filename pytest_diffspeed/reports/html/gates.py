"""One gate as the page shows it: plain strings and rows, whatever kind of gate it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...records.reader import RecordedGate
from ...records.verdict import GateResult
from ..brief import brief_of_gate
from ..causes import step_of_gate
from ..loose import count, mapping, number, word, words
from ..units import bytes_of, interval, percent, ratio, ratio_with_interval, seconds
from .axes import AXES, MEMORY, RATIO, TIME, Axis, axis_of, severity
from .base_commit import DifferenceView, differences, is_against_base
from .gpu_cost import CostView, cost_view
from .pairs import PairPlot, pair_plot
from .similarity import Metric, metrics
from .sites import Sites, sites_of
from .stages import Stages, stages


@dataclass(frozen=True)
class GateView:
    """``found`` is its finding in a line, ``brief`` in a table's cell, ``key`` what that sorts by;
    ``step`` says what to do next, where it did not pass.

    ``is_unchecked``: it was tried and could not be checked, for which INCONCLUSIVE stands here.
    ``facts`` are labels with values.  ``where``
    names device and shard where the test alone does not tell it from others, and ``place`` is that
    of its session among all.
    """

    id: str
    axis: Axis
    result: GateResult
    verdict: str
    finished: bool
    is_unchecked: bool
    found: str
    brief: str
    key: float | None
    reason: str
    step: str
    facts: tuple[tuple[str, str], ...]
    sites: tuple[Sites, ...]
    metrics: tuple[Metric, ...]
    plot: PairPlot | None
    stages: Stages | None
    differences: tuple[DifferenceView, ...]
    cost: CostView | None
    against_base: bool
    notes: tuple[str, ...]
    where: str = ""
    place: int = 0

    @property
    def order(self) -> tuple[int, int, str]:
        """Failures first, then by reliability."""
        return severity(self.verdict), AXES.index(self.axis), self.result.test


def gate_view(gate: RecordedGate, number_of_it: int, where: str = "", place: int = 0) -> GateView:
    """``number_of_it`` names it within the page."""
    result, figures = gate.result, gate.result.figures
    axis = axis_of(result)
    sites = sites_of(figures)
    cost = cost_view(figures)
    cell, key = brief_of_gate(gate)
    return GateView(
        id=f"gate-{number_of_it}",
        axis=axis,
        result=result,
        verdict=str(result.verdict),
        finished=gate.finished,
        is_unchecked=gate.error is not None,
        found=_found(axis, figures),
        brief=cell,
        key=key,
        reason=_reason(result, sites, cost),
        step="".join(step_of_gate(gate)),
        facts=tuple((label, text) for label, text in _facts(axis, figures) if text),
        sites=sites,
        metrics=metrics(figures),
        plot=pair_plot(gate),
        stages=stages(figures, (word(figures.get("over")) or "baseline", result.stack)),
        differences=differences(figures),
        cost=cost,
        against_base=is_against_base(result),
        notes=tuple(_notes(figures)),
        where=where,
        place=place,
    )


def _found(axis: Axis, figures: Mapping[str, Any]) -> str:
    found = word(figures.get("found"))
    if found is not None:
        return found
    if axis is not RATIO:
        return ""
    if not count(figures.get("pairs")):
        return ""
    ends = number(figures.get("low")), number(figures.get("high"))
    message = ratio_with_interval(number(figures.get("ratio")), *ends)
    need = number(figures.get("need"))
    return message if need is None else f"{message}, need ≥ {need:.3g}×"


def _interval(figures: Mapping[str, Any]) -> str:
    return interval(number(figures.get("low")), number(figures.get("high")))


# Lines of a reason that repeat what stands in a table of sites: indented, or over such lines.
_OF_A_SITE = re.compile(r"\s+(?!better: )\S|\S+ \([^()]*\):$")


def _reason(result: GateResult, sites: tuple[Sites, ...], cost: CostView | None) -> str:
    if cost is not None and cost.kernels:
        lines = result.reason.splitlines()
        in_tables = tuple(f"  {cost.unit}, {sign}" for sign in "+-")
        return "\n".join(line for line in lines if not line.startswith(in_tables))
    if not sites:
        return result.reason
    again = {f"{site.how_often}: {site.function} (" for table in sites for site in table.sites}
    return "\n".join(
        line
        for line in result.reason.splitlines()
        if not _OF_A_SITE.match(line) and not line.startswith(tuple(again))
    )


def _facts(axis: Axis, figures: Mapping[str, Any]) -> list[tuple[str, str]]:
    def sec(name: str) -> str:
        return seconds(number(figures.get(name)))

    def whole(name: str) -> str:
        found = count(figures.get(name))
        return "" if found is None else str(found)

    over = word(figures.get("over")) or "baseline"
    if axis is RATIO:
        noise = number(figures.get("noise"))
        coverage = number(figures.get("coverage"))
        unit = word(figures.get("unit")) or "call"
        return [
            ("interval", f"{_interval(figures)}{_coverage(coverage)}" if noise is not None else ""),
            ("pairs", _pairs(figures)),
            ("a pair is of", "" if unit == "call" else word(figures.get("pairs_of")) or ""),
            ("noise a pair", "" if noise is None else percent(noise)),
            ("baseline against itself", _floor(figures)),
            ("process instances", _instances(figures)),
            (f"a {unit} of {over}", sec("baseline_s")),
            (f"a {unit} of this stack", sec("candidate_s")),
            ("its first call", sec("candidate_first_call_s")),
            ("error rate", _error_rate(figures)),
            ("e-values", _e_values(figures)),
            ("attempt", _attempt(figures)),
            ("peak memory", _peaks(mapping(figures.get("memory")))),
        ]
    if axis is MEMORY:
        return [
            (f"peak of {over}", bytes_of(number(figures.get("baseline_peak_bytes")))),
            ("peak of this stack", bytes_of(number(figures.get("candidate_peak_bytes")))),
            ("allowed", _times(number(figures.get("max_ratio")))),
        ]
    if axis is TIME:
        return [
            ("allowed", sec("allowed_s")),
            ("a call of fp32", sec("baseline_s")),
            ("a call of this stack", sec("candidate_s")),
            ("compile cache", word(figures.get("cache")) or ""),
        ]
    floor = ((name, word(figures.get(name))) for name in ("floor_again", "floor_kernels"))
    denominator = number(figures.get("denominator_rmse"))
    return [
        *((_FLOORS[name], sentence) for name, sentence in floor if sentence is not None),
        ("other cases differ by", "" if denominator is None else f"{denominator:.3f} RMSE"),
        ("output", _output(figures)),
        ("not compared", ", ".join(words(figures.get("not_compared")))),
        ("counted on", word(figures.get("counted_on")) or ""),
        ("counted with", word(figures.get("counted_with")) or ""),
        ("preset", word(figures.get("preset")) or ""),
    ]


def _output(figures: Mapping[str, Any]) -> str:
    rate = count(figures.get("sample_rate_hz"))
    output = word(figures.get("output")) or ""
    return output if rate is None else f"{output}, {rate} Hz"


def _coverage(coverage: float | None) -> str:
    return "" if coverage is None else f", covers {coverage:.0%}"


def _pairs(figures: Mapping[str, Any]) -> str:
    pairs, dropped = count(figures.get("pairs")), count(figures.get("dropped_pairs"))
    if pairs is None:
        return ""
    return f"{pairs}, {dropped} more dropped" if dropped else str(pairs)


def _floor(figures: Mapping[str, Any]) -> str:
    floor = number(figures.get("noise_floor"))
    return "" if floor is None or not count(figures.get("noise_floor_pairs")) else percent(floor)


def _instances(figures: Mapping[str, Any]) -> str:
    instances, spread = count(figures.get("instances")), number(figures.get("process_spread"))
    if instances is None:
        return ""
    return str(instances) if spread is None else f"{instances}, {percent(spread)} apart"


def _error_rate(figures: Mapping[str, Any]) -> str:
    alpha = number(figures.get("alpha"))
    if alpha is None:
        return ""
    is_sample = number(figures.get("process_spread")) is not None
    return f"at most {alpha:.3g}, for {'such' if is_sample else 'these'} process instances"


def _e_values(figures: Mapping[str, Any]) -> str:
    found = [number(figures.get(f"evidence_for_{verdict}")) for verdict in ("pass", "fail")]
    pairs = zip(found, ("PASS", "FAIL"), strict=True)
    return ", ".join(f"{value:.3g} for {verdict}" for value, verdict in pairs if value is not None)


def _attempt(figures: Mapping[str, Any]) -> str:
    attempt = count(figures.get("attempt"))
    return "" if attempt is None or attempt < 2 else f"{attempt} for this tree"


def _peaks(memory: Mapping[str, Any]) -> str:
    peaks = [
        number(mapping(memory.get(arm)).get("allocated_bytes")) for arm in ("baseline", "candidate")
    ]
    return "" if None in peaks else " → ".join(map(bytes_of, peaks))


def _times(share: float | None) -> str:
    return "" if share is None else ratio(share)


_FLOORS = {"floor_again": "baseline drawn again", "floor_kernels": "baseline, other kernels"}


def _notes(figures: Mapping[str, Any]) -> list[str]:
    """What the reader must know, and the gate itself noted beside its reason."""
    skipped: dict[str, list[str]] = {}
    for limit, why in mapping(figures.get("skipped")).items():
        skipped.setdefault(str(why), []).append(limit)
    notes = [f"not checked: {', '.join(limits)}: {why}" for why, limits in skipped.items()]
    notes += [note for note in words(figures.get("notes")) if note not in skipped]
    notes += [f"in the place of {written}" for written in words(figures.get("replaces"))]
    allowances = words(figures.get("unused_allowances"))
    notes += [f"allowed, but not seen any more: {allowance}" for allowance in allowances]
    error = word(figures.get("pictures_error"))
    return notes if error is None else [*notes, f"no pictures were written: {error}"]

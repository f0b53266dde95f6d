"""The ladder: a row a stack, as a table and as what the script draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.text import plural
from ...records.devices import Places
from ...records.reader import RecordedSession
from ..ladder import about_images, break_even, worst_image
from ..loose import count, mapping, number, word, words
from ..units import bytes_of, ratio, ratio_with_interval, seconds
from .gates import GateView
from .pareto import Pareto, pareto
from .text import name

MOST_ROWS = 60
"""Of a chart and of the table: the default ladder has 24."""


@dataclass(frozen=True)
class LadderRow:
    """``why`` says why there are no figures, or what went wrong after them."""

    stack: str
    over_baseline: str
    worst_image: str
    worst_key: float | None
    over_previous: str
    key: float | None
    call: str
    first_call: str
    break_even: str
    memory: str
    why: str
    known_slow: tuple[str, ...]
    proofs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Ladder:
    """``chart`` is what the script draws, ``summary`` the same in words; ``pareto`` is ratio over
    images, and ``about_images`` what these are; ``left_out`` rows are not shown.
    """

    rows: tuple[LadderRow, ...]
    chart: Sequence[Mapping[str, Any]]
    summary: str
    has_memory: bool
    left_out: int
    has_images: bool
    about_images: tuple[str, ...]
    pareto: Pareto | None


def ladder(records: Sequence[Mapping[str, Any]]) -> Ladder:
    """The rows in the order of the records: that is the order of the guide."""
    left_out = max(0, len(records) - MOST_ROWS)
    records = records[:MOST_ROWS]
    rows = tuple(_row(record) for record in records)
    chart: list[dict[str, Any]] = [
        {
            "label": name(str(record["stack"])),
            "ratio": number(over.get("ratio")),
            "low": number(over.get("low")),
            "high": number(over.get("high")),
            "unclear": over.get("verdict") == "INCONCLUSIVE",
            "before": number(mapping(record.get("over_previous")).get("ratio")),
        }
        for record in records
        if number((over := mapping(record.get("over_baseline"))).get("ratio"))
    ]
    summary = ""
    if chart:
        best = max(chart, key=lambda row: row["ratio"])
        slower = sum(row["high"] is not None and row["high"] < 1 for row in chart)
        summary = (
            f"{plural(len(chart), 'stack')} against fp32; the fastest is {best['label']} at "
            f"{ratio(best['ratio'])}" + (f"; {slower} slower than fp32." if slower else ".")
        )
    return Ladder(
        rows,
        chart,
        summary,
        any(row.memory for row in rows),
        left_out,
        any("images" in record for record in records),
        tuple(sentence.strip() for sentence in about_images(records)),
        pareto(records),
    )


def ladder_of_all(session: RecordedSession) -> Sequence[Mapping[str, Any]]:
    """The rows of all sessions; where several have some, each stack with its device."""
    climbed = [part for part in session.sessions if part.ladder]
    if len(climbed) < 2:
        return session.ladder
    places = Places(session)
    return [
        {**row, "stack": f"{row['stack']} on {places.device(part)}"}
        for part in climbed
        for row in part.ladder
    ]


def ratio_chart(gates: Sequence[GateView]) -> list[dict[str, Any]]:
    """Every gate on a ratio beside its threshold, failures first."""
    return [
        {
            "label": name(_label(gate)),
            "id": gate.id,
            "verdict": gate.verdict,
            "ratio": found,
            "low": number(figures.get("low")),
            "high": number(figures.get("high")),
            "need": number(figures.get("need")),
        }
        for gate in gates
        if (found := number((figures := gate.result.figures).get("ratio"))) and gate.plot
    ][:MOST_ROWS]


def _label(gate: GateView) -> str:
    test = gate.result.test.rpartition("::")[2]
    stack = "" if f"[{gate.result.stack}]" in test else f", {gate.result.stack}"
    where = f" on {gate.where}" if gate.where else ""
    return f"{test}{stack}{where} over {word(gate.result.figures.get('over')) or 'baseline'}"


def _row(record: Mapping[str, Any]) -> LadderRow:
    baseline = mapping(record.get("over_baseline"))
    why = word(record.get("reason")) or word(record.get("without_previous")) or ""
    if not why and word(record.get("why_whole_calls")):
        why = f"whole calls: {word(record.get('why_whole_calls'))}"
    if not why and words(record.get("without")):
        why = f"composed without {', '.join(words(record.get('without')))}"
    images = number(record.get("break_even_images"))
    if not baseline and not why:
        why = "stopped before it was measured"
    return LadderRow(
        stack=str(record["stack"]),
        over_baseline=_format(baseline),
        worst_image=worst_image(record),
        worst_key=number(mapping(record.get("images")).get("worst")),
        over_previous=_format(mapping(record.get("over_previous"))),
        key=number(baseline.get("ratio")),
        call=("~" if mapping(record.get("composed")) else "")
        + seconds(number(record.get("call_s"))),
        first_call=seconds(number(record.get("first_call_s"))),
        break_even=break_even(baseline.get("verdict"), images) if baseline else "",
        memory=bytes_of(number(record.get("peak_bytes"))),
        why=why,
        known_slow=tuple(words(record.get("known_slow"))),
        proofs=tuple((k, str(v)) for k, v in mapping(record.get("proofs")).items()),
    )


def _format(over: Mapping[str, Any]) -> str:
    found = number(over.get("ratio"))
    if found is None or not count(over.get("pairs")):
        return ""
    unclear = " ≈" if over.get("verdict") == "INCONCLUSIVE" else ""
    ends = number(over.get("low")), number(over.get("high"))
    return f"{ratio_with_interval(found, *ends)}{unclear}"

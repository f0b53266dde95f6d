"""The pairs of a ratio, as the pair plot shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...common.text import outside, plural
from ...records.reader import RecordedGate
from ..loose import count, number, word
from ..units import interval, ratio

MOST_PAIRS = 400
"""Of one plot: the latest.  More dots than this are a grey stripe."""

CANDIDATE_FIRST = 1
DROPPED = 2


@dataclass(frozen=True)
class PairPlot:
    """``data`` is what the script draws, ``summary`` what it shows in words, ``notes`` what it does
    not show.
    """

    data: Mapping[str, Any]
    summary: str
    notes: tuple[str, ...]


def pair_plot(gate: RecordedGate) -> PairPlot | None:
    """``None`` where no pair was timed."""
    if not gate.pairs:
        return None
    figures = gate.result.figures
    kept = gate.pairs[-MOST_PAIRS:]
    dropped = [pair for pair in gate.pairs if pair.dropped is not None]
    reasons = list(dict.fromkeys(pair.dropped for pair in dropped))
    found, need = number(figures.get("ratio")), number(figures.get("need"))
    low, high = number(figures.get("low")), number(figures.get("high"))
    data = {
        "pairs": [
            [
                pair.index,
                _short(pair.baseline_s),
                _short(pair.candidate_s),
                CANDIDATE_FIRST * pair.candidate_first + DROPPED * (pair.dropped is not None),
                reasons.index(pair.dropped) if pair.dropped is not None else -1,
            ]
            for pair in kept
        ],
        "reasons": reasons,
        "ratio": found,
        "low": low,
        "high": high,
        "need": need,
        "over": word(figures.get("over")) or "",
    }
    counted = len(gate.pairs) - len(dropped)
    summary = (
        f"{plural(counted, 'pair')} in the order in which they were timed: median {ratio(found)}"
    )
    if gate.finished:
        summary += f", {outside(found, low, high, ratio)}interval {interval(low, high)}"
    if need is not None:
        below = sum(
            pair.baseline_s / pair.candidate_s < need for pair in gate.pairs if pair.dropped is None
        )
        summary += f"; {below} of them below the {need:.3g}× that are needed"
    return PairPlot(data, summary + ".", tuple(_notes(figures, len(dropped), len(gate.pairs))))


def _notes(figures: Mapping[str, Any], dropped: int, total: int) -> list[str]:
    notes: list[str] = []
    if dropped:
        verb = "does" if dropped == 1 else "do"
        notes.append(f"{plural(dropped, 'dropped pair')} {verb} not count.")
    earlier = count(figures.get("earlier_pairs"))
    if earlier:
        verb = "counts" if earlier == 1 else "count"
        notes.append(f"{plural(earlier, 'pair')} of earlier runs of this tree {verb} too.")
    if total > MOST_PAIRS:
        notes.append(f"The latest {MOST_PAIRS} of {total} are drawn.")
    return notes


def _short(seconds: float) -> float:
    return float(f"{seconds:.5g}")

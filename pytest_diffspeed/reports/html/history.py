"""Series of figures over commits with their change points, in words and for the script to draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...common.text import number as written
from ...common.text import outside, plural
from ...records.series import Point, Series, is_part
from ..changes import change_line, short
from ..loose import number
from .axes import VERDICTS
from .text import name

MOST_SERIES = 40
MOST_POINTS = 250
ROWS = 12
"""Points in the table of a series: the latest."""


@dataclass(frozen=True)
class Told:
    """One series.  ``changes`` and ``drift`` are sentences, ``rows`` its latest points."""

    series: Series
    title: str
    changes: tuple[str, ...]
    drift: str
    rows: tuple[tuple[str, str, str, str, str], ...]
    summary: str
    chart: Mapping[str, Any]

    @property
    def is_calm(self) -> bool:
        """Whether nothing changed."""
        return not self.changes and not self.drift


@dataclass(frozen=True)
class History:
    """``left_out`` series are not shown, and ``begun`` have this one session so far."""

    told: tuple[Told, ...]
    left_out: int
    begun: int = 0


def history(series: Sequence[Series]) -> History:
    """What changed first; among equals counts before measured figures."""
    several = [one for one in series if len(one.points) > 1]  # one point is in its gate already
    told = sorted((told_of(one) for one in several if not is_nowhere(one, several)), key=_order)
    shown = told[:MOST_SERIES]
    return History(tuple(shown), len(several) - len(shown), len(series) - len(several))


def is_nowhere(one: Series, every: Sequence[Series]) -> bool:
    """Whether it is a part of another figure, such as one type of FLOPs, that was never found."""
    return one.is_always_zero and any(
        is_part(one.figure, other.figure) and (one.test, one.claim) == (other.test, other.claim)
        for other in every
    )


def _order(told: Told) -> tuple[bool, bool, str]:
    return told.is_calm, not told.series.is_counted, told.title


def told_of(series: Series, most: int = MOST_POINTS) -> Told:
    """One series in words and as a chart of its newest ``most`` points."""
    changes = tuple(change_line(series, change) for change in series.changes)
    drift = series.drift
    said = drift.sentence if drift is not None and drift.is_shown else ""
    skipped = max(0, len(series.points) - most)
    values = [point.value for point in series.points]
    summary = f"{plural(len(values), 'point')} of {series.figure}"
    if values:
        summary += f" from {written(values[0])} to {written(values[-1])}"
    summary += f", {plural(len(changes), 'change point')}."
    return Told(
        series=series,
        title=f"{series.figure}: {series.claim}",
        changes=changes,
        drift=said,
        rows=tuple(_row(point) for point in reversed(series.points[-ROWS:])),
        summary=summary,
        chart={
            "figure": series.figure,
            "points": [
                [
                    point.at,
                    name("" if point.commit is None else short(point.commit)),
                    number(point.value),
                    None if point.low is None else number(point.low),
                    None if point.high is None else number(point.high),
                    VERDICTS.index(point.verdict) if point.verdict in VERDICTS else -1,
                ]
                for point in series.points[skipped:]
            ],
            "changes": [
                [change.index - skipped, number(change.before), number(change.after)]
                for change in series.changes
                if change.index >= skipped
            ],
            "anchor": None if drift is None or not drift.is_shown else number(drift.anchor),
        },
    )


def _row(point: Point) -> tuple[str, str, str, str, str]:
    value = written(point.value)
    if point.low is not None or point.high is not None:
        ends = (
            ("0" if point.low is None else written(point.low)),
            ("∞" if point.high is None else written(point.high)),
        )
        value += f" {outside(point.value, point.low, point.high, written)}[{ends[0]}, {ends[1]}]"
    return (
        point.at[:16].replace("T", " "),
        "" if point.commit is None else short(point.commit),
        point.subject or "",
        value,
        point.verdict,
    )

"""The page of one test: each figure over its commits, with the data of its charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from ...records.history_of_test import HistoryOfTest
from ...records.series import Difference, Series
from ..changes import how_it_goes_on, short
from ..html.history import Told, told_of
from .moved_lines import Explained, explained
from .tracks import STATES, RowOfTest, Track, rows_of, shown_series, tracks_of

OPEN_SERIES = 8
"""Series that are unfolded from the start: those that changed, or the first ones."""


@dataclass(frozen=True)
class SeriesBlock:
    """One series.  ``goes_on`` says how it follows the one before, ``ranges`` are git commands."""

    id: str
    told: Told
    state: str
    goes_on: str
    differing: Sequence[Difference]
    ranges: tuple[str, ...]
    explained: Sequence[Explained]


@dataclass(frozen=True)
class PageOfTest:
    """What the template of a test's page is filled with."""

    test: str
    rows: Sequence[RowOfTest]
    blocks: Sequence[SeriesBlock]
    nowhere: Sequence[str]
    data: Mapping[str, Any]

    @property
    def stacks(self) -> list[str]:
        return sorted({block.told.series.stack for block in self.blocks})


def view_of(history: HistoryOfTest, page: str) -> PageOfTest:
    """The page's content: what changed first, counts before measured figures."""
    commits = _Commits()
    shown = {id(one) for one in shown_series(history)}
    places = {id(one): place for place, one in enumerate(history.series)}
    blocks: list[SeriesBlock] = []
    charts: dict[str, Any] = {}
    for track in sorted(tracks_of(history), key=_order):
        for series in track.parts:
            place = places.get(id(series))
            if place is not None and id(series) not in shown:
                continue
            told = told_of(series, most=len(series.points))
            block = _block(history, track, series, told, place)
            blocks.append(block)
            charts[block.id] = {**told.chart, "points": commits.refer(series, told.chart)}
    nowhere = dict.fromkeys(one.figure for one in history.series if id(one) not in shown)
    return PageOfTest(
        test=history.test,
        rows=rows_of(history, page),
        blocks=blocks,
        nowhere=list(nowhere),
        data={"sessions": commits.rows, "series": charts},
    )


def _order(track: Track) -> tuple[int, bool, bool, str, str, str]:
    newest = track.newest
    return (
        STATES.index(track.state),
        newest.figure != "speed index",
        not newest.is_counted,
        newest.stack,
        newest.claim,
        newest.figure,
    )


def _block(
    history: HistoryOfTest, track: Track, series: Series, told: Told, place: int | None
) -> SeriesBlock:
    differing = None if place is None else history.differing.get(place)
    goes_on = ""
    if place is not None and differing is not None:
        goes_on = how_it_goes_on(history.series[place - 1], series)
    who = "\0".join(
        (series.stack, series.claim, series.figure, series.condition, series.machine)
        + ((series.points[0].commit or "",) if place is None else ())
    )
    return SeriesBlock(
        id=f"s-{sha256(who.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}",
        told=told,
        state=track.state if series is track.newest else "",
        goes_on=goes_on,
        differing=differing or (),
        ranges=tuple(
            f"git log --oneline {short(change.after_commit)}..{short(change.by_commit)}"
            for change in series.changes
            if change.after_commit and change.by_commit and change.after_commit != change.by_commit
        ),
        explained=explained(history, series),
    )


class _Commits:
    """Moments that points of several series share, each once."""

    def __init__(self) -> None:
        self.rows: list[list[Any]] = []
        self._places: dict[tuple[str, str | None], int] = {}

    def refer(self, series: Series, chart: Mapping[str, Any]) -> list[list[Any]]:
        """The points of a chart with the place of their moment instead of its texts."""
        referring = []
        for point, (_, _, *figures) in zip(series.points, chart["points"], strict=True):
            key = point.at, point.commit
            if key not in self._places:
                self._places[key] = len(self.rows)
                self.rows.append([point.at, point.commit or "", point.subject or ""])
            referring.append([self._places[key], *figures, *([1] if point.dirty else [])])
        return referring

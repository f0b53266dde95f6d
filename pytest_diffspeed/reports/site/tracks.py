"""A figure of a test over all of its environments: what one cell of the overview shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.text import number
from ...records.history_of_test import HistoryOfTest
from ...records.series import Series, is_part
from .. import units
from ..html.axes import VERDICTS
from ..html.history import is_nowhere

COLUMNS = (
    "speed index",
    "ratio",
    "syncs once",
    "syncs a step",
    "breaks",
    "recompiles",
    "GPU kernels",
    "GPU bytes",
    "memory ratio",
)
"""Figures of the overview, those that a commit moves first; others stand on the test's page."""
WORSE, DRIFT, BETTER, SAME = STATES = ("worse", "drift", "better", "same")
"""How a figure stands since its last change, worst first."""


@dataclass(frozen=True)
class Track:
    """One figure of one claim of a stack; ``parts`` are its series, one an environment."""

    parts: tuple[Series, ...]

    @property
    def newest(self) -> Series:
        return max(self.parts, key=lambda one: one.points[-1].at)

    @property
    def figure(self) -> str:
        return self.newest.figure

    @property
    def stack(self) -> str:
        return self.newest.stack

    @property
    def value(self) -> str:
        """The last value, as reports write it."""
        last = self.newest.points[-1].value
        if self.figure == "GPU bytes":
            return units.bytes_of(last)
        return f"{number(last)}×" if self.figure.endswith(("ratio", "index")) else number(last)

    @property
    def state(self) -> str:
        """What its last change was, in whichever environment; drift where it drifts since."""
        changes = [
            (one.points[change.index].at, one.is_worse(change))
            for one in self.parts
            for change in one.changes
        ]
        _, is_worse = max(changes, key=lambda entry: entry[0], default=("", False))
        if is_worse:
            return WORSE
        drift = self.newest.drift
        if drift is not None and drift.is_shown:
            return DRIFT
        return BETTER if changes else SAME


@dataclass(frozen=True)
class RowOfTest:
    """A test in one stack; ``cells`` by figure of :data:`COLUMNS`."""

    test: str
    page: str
    stack: str
    verdict: str
    state: str
    last_at: str
    cells: dict[str, Track]


def tracks_of(history: HistoryOfTest) -> list[Track]:
    """The figures of a test, its speed indexes (of each the newest curve) first."""
    newest = {index.curve: index.as_series() for index in history.indexes}
    indexes = [Track((one,)) for one in newest.values()]
    tracks: list[Track] = []
    for series in history.series:
        if tracks and tracks[-1].parts[-1].goes_on_in(series):
            tracks[-1] = Track((*tracks[-1].parts, series))
        else:
            tracks.append(Track((series,)))
    return [*indexes, *tracks]


def wholes(tracks: Sequence[Track]) -> list[Track]:
    """Without parts of other figures, such as one type of FLOPs."""
    names = {(one.newest.stack, one.newest.claim, one.figure) for one in tracks}
    return [
        one
        for one in tracks
        if not any(
            stack == one.newest.stack and claim == one.newest.claim and is_part(one.figure, of)
            for stack, claim, of in names
        )
    ]


def shown_series(history: HistoryOfTest) -> list[Series]:
    """All but parts that were never found."""
    return [one for one in history.series if not is_nowhere(one, history.series)]


def rows_of(history: HistoryOfTest, page: str) -> list[RowOfTest]:
    """One for each stack, in the order of names."""
    of_stack: dict[str, list[Track]] = {}
    for track in wholes(tracks_of(history)):
        of_stack.setdefault(track.stack, []).append(track)
    return [_row(history.test, page, stack, of_stack[stack]) for stack in sorted(of_stack)]


def _row(test: str, page: str, stack: str, tracks: Sequence[Track]) -> RowOfTest:
    cells: dict[str, Track] = {}
    for track in tracks:
        known = cells.get(track.figure)
        if track.figure in COLUMNS and (
            known is None or track.newest.points[-1].at > known.newest.points[-1].at
        ):
            cells[track.figure] = track
    last_at = max(track.newest.points[-1].at for track in tracks)
    reached = [
        track.newest.points[-1].verdict
        for track in tracks
        if track.newest.points[-1].at == last_at and track.newest.points[-1].verdict in VERDICTS
    ]
    return RowOfTest(
        test=test,
        page=page,
        stack=stack,
        verdict=min(reached, key=VERDICTS.index, default=""),
        state=min((track.state for track in tracks), key=STATES.index),
        last_at=last_at,
        cells=cells,
    )

"""The first page: every test and stack, what changed, and where environments changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...common.text import plural
from ...records.history_of_test import HistoryOfTest, HistorySize
from ...records.series import Difference, Series
from ..changes import change_line
from .tracks import BETTER, COLUMNS, STATES, WORSE, RowOfTest, rows_of, tracks_of, wholes

MOST_JUMPS = 200
MOST_MOVES = 40


@dataclass(frozen=True)
class JumpLine:
    """A change of one figure, as a line of the overview."""

    at: str
    test: str
    stack: str
    figure: str
    state: str
    sentence: str
    link: str


@dataclass
class Move:
    """Figures that go on in another environment, ``many`` of them."""

    at: str
    before: str
    after: str
    devices: tuple[str, str]
    differing: Sequence[Difference]
    many: int = 0


@dataclass
class SiteOverview:
    """Filled test by test."""

    size: HistorySize
    rows: list[RowOfTest] = field(default_factory=list)
    tests: int = 0
    _jumps: list[JumpLine] = field(default_factory=list)
    _moves: dict[tuple[str, str], Move] = field(default_factory=dict)

    def add(self, history: HistoryOfTest, page: str) -> None:
        self.tests += 1
        self.rows += rows_of(history, page)
        for track in wholes(tracks_of(history)):
            for series in track.parts:
                self._jumps += _jumps(series, page)
        for place, differing in history.differing.items():
            before, after = history.series[place - 1 : place + 1]
            move = self._moves.setdefault(
                (before.machine, after.machine),
                Move(
                    after.points[0].at,
                    before.machine,
                    after.machine,
                    (before.machine_name, after.machine_name),
                    differing,
                ),
            )
            move.at = min(move.at, after.points[0].at)
            move.many += 1

    @property
    def columns(self) -> list[str]:
        """Figures that some row has."""
        there = {figure for row in self.rows for figure in row.cells}
        return [figure for figure in COLUMNS if figure in there]

    @property
    def by_state(self) -> list[tuple[str, int]]:
        """How many rows stand how, worst first; without what there is none of."""
        many = Counter(row.state for row in self.rows)
        return [(state, many[state]) for state in STATES if many[state]]

    @property
    def ordered(self) -> list[RowOfTest]:
        """Worst first, then by name."""
        return sorted(self.rows, key=lambda row: (STATES.index(row.state), row.test, row.stack))

    @property
    def jumps(self) -> list[JumpLine]:
        """The newest first."""
        self._jumps.sort(key=lambda one: (one.test, one.stack, one.figure))
        self._jumps.sort(key=lambda one: one.at, reverse=True)
        return self._jumps[:MOST_JUMPS]

    @property
    def jumps_left_out(self) -> int:
        return max(0, len(self._jumps) - MOST_JUMPS)

    @property
    def moves(self) -> list[Move]:
        """The newest first."""
        return sorted(self._moves.values(), key=lambda one: (one.at, one.after), reverse=True)[
            :MOST_MOVES
        ]

    @property
    def moves_left_out(self) -> int:
        return max(0, len(self._moves) - MOST_MOVES)

    @property
    def headline(self) -> str:
        return f"{plural(self.tests, 'test')} over {plural(self.size.commits, 'commit')}"


def _jumps(series: Series, page: str) -> list[JumpLine]:
    found = []
    for change in series.changes:
        commit = series.points[change.index].commit
        found.append(
            JumpLine(
                at=series.points[change.index].at,
                test=series.test,
                stack=series.stack,
                figure=series.figure,
                state=WORSE if series.is_worse(change) else BETTER,
                sentence=change_line(series, change),
                link=page if commit is None else f"{page}#commit={commit}",
            )
        )
    return found

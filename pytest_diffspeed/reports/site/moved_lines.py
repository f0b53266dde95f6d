"""Which lines of code came, went or ran more often where a count changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...records.history_of_test import HistoryOfTest
from ...records.series import Change, Series
from ..changes import change_line
from ..html.sites import SiteView, sites_of

MOST_LINES = 12
"""Of one change."""


@dataclass(frozen=True)
class MovedLine:
    """``how`` is ``new``, ``gone``, or how often it ran before and after."""

    how: str
    site: SiteView


@dataclass(frozen=True)
class Explained:
    """A change with the lines of its gate that moved; ``left_out`` more did."""

    change: Change
    sentence: str
    lines: tuple[MovedLine, ...]
    left_out: int


def explained(history: HistoryOfTest, series: Series) -> list[Explained]:
    """The changes of a count whose gates say at which lines they counted, the newest first."""
    found = []
    for change in reversed(series.changes):
        lines = _moved(history, series, change)
        if lines:
            left_out = max(0, len(lines) - MOST_LINES)
            shown = tuple(lines[:MOST_LINES])
            found.append(Explained(change, change_line(series, change), shown, left_out))
    return found


def _moved(history: HistoryOfTest, series: Series, change: Change) -> list[MovedLine]:
    ends = [
        history.gates.get((str(point.session), series.stack, series.claim))
        for point in (series.before(change), series.points[change.index])
    ]
    if ends[0] is None or ends[1] is None:
        return []
    before, after = (_lines(figures) for figures in ends if figures is not None)
    moved = []
    for key in {**before, **after}:
        one, two = before.get(key), after.get(key)
        if one is None and two is not None:
            moved.append(MovedLine("new", two))
        elif two is None and one is not None:
            moved.append(MovedLine("gone", one))
        elif one is not None and two is not None and one.how_often != two.how_often:
            moved.append(MovedLine(f"before: {one.how_often}; now: {two.how_often}", two))
    return sorted(moved, key=lambda line: (line.how != "new", line.how != "gone", line.site.where))


def _lines(figures: Mapping[str, Any]) -> dict[tuple[str, ...], SiteView]:
    """By what stays where lines above it move: file, function, kind and source."""
    found: dict[tuple[str, ...], SiteView] = {}
    for table in sites_of(figures):
        for site in table.sites:
            file = site.where.rpartition(":")[0]
            key = file, site.function, site.what, site.source
            twins = 0
            while (*key, str(twins)) in found:  # the same words on two lines of one function
                twins += 1
            found[(*key, str(twins))] = site
    return found

"""What ``diffspeed history`` prints of series."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from ..common.text import number, outside
from ..records.series import Difference, Point, Series
from ..reports.changes import change_line, how_it_goes_on
from ..reports.changes import short as reports_short
from ..reports.sparkline import binned

WIDTH = 64
MOST_DIFFERENCES = 8
"""Lines of what differs between two environments; the rest is named in one more."""
_BARS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-:=+*#"


def plain(text: str) -> str:
    """``text`` without what a terminal would obey: names come from files of others."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(commit: str | None) -> str:
    return plain(reports_short(commit))


def series_lines(series: Series, *, points: bool, encoding: str) -> Iterator[str]:
    """One series: its curve, its jumps with their commits, its drift; all points if wanted."""
    seen = series.points
    yield f"{plain(series.test)}, stack {plain(series.stack)}"
    yield f"{plain(series.figure)} of {plain(series.claim)}; {series.better} is better"
    dates = " to ".join(dict.fromkeys((seen[0].at[:10], seen[-1].at[:10])))
    yield (
        f"on {plain(series.machine_name)} (environment {plain(series.machine[:8])}), "
        f"{plain(series.condition)}: {_many(len(seen), 'point')}, {dates}"
    )
    values = [point.value for point in seen]
    changed = [change.index for change in series.changes]
    bars, marks = curve(values, changed, encoding=encoding)
    last = f"last {_value(seen[-1])}"
    yield f"    {bars}  {number(min(values))} … {number(max(values))}, {last}"
    if changed:
        yield f"    {marks}"
    dirty = sum(point.dirty for point in seen)
    if dirty:
        yield (
            f"    {_many(dirty, 'point')} of trees with uncommitted changes "
            f"{'is' if dirty == 1 else 'are'} shown, and nothing below rests on them"
        )
    for change in series.changes:
        yield f"    {plain(change_line(series, change))}"
    if series.drift is not None:
        yield f"    {series.drift.sentence}"
    if points:
        yield from point_lines(series)


def goes_on_lines(before: Series, after: Series, differing: Sequence[Difference]) -> Iterator[str]:
    """What differs between the environments of two series of one figure, shown between them."""
    how = how_it_goes_on(before, after)
    digests = f"({plain(before.machine[:8])} → {plain(after.machine[:8])})"
    if not differing:
        yield f"{how} {digests}; the records of their sessions do not say what differs"
        return
    yield f"{how} {digests}. What differs:"
    shown = differing[:MOST_DIFFERENCES]
    width = max(len(plain(one.name)) for one in shown)
    for one in shown:
        ends = ("none" if end is None else plain(end) for end in (one.before, one.after))
        yield f"    {plain(one.name):<{width}}  {' → '.join(ends)}"
    rest = [plain(one.name) for one in differing[MOST_DIFFERENCES:]]
    if rest:
        yield f"    and {len(rest)} more: {', '.join(rest)}"


def point_lines(series: Series) -> Iterator[str]:
    """A line for each point; ``*`` marks a dirty tree and ``<`` the first of a new level."""
    changed = {change.index for change in series.changes}
    for index, point in enumerate(series.points):
        marks = ("*" if point.dirty else " ") + ("<" if index in changed else " ")
        subject = plain(point.subject or "")[:50]
        place = f"{point.at}  {short(point.commit):<10}{marks}"
        yield f"    {place} {_value(point)}  {subject}".rstrip()


def stdout_encoding() -> str:
    """In which what is printed has to be written."""
    return getattr(sys.stdout, "encoding", None) or "ascii"


def curve(values: Sequence[float], changed: Sequence[int], *, encoding: str) -> tuple[str, str]:
    """The values as a line of at most ``WIDTH`` bars, each the median of its share of the points,
    and a line that has ``^`` where a level begins.
    """
    try:
        _BARS.encode(encoding)
        bars = _BARS
    except (LookupError, UnicodeEncodeError):
        bars = _PLAIN
    heights, marked = binned(values, changed, WIDTH)
    low, high = min(heights), max(heights)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    line = "".join(bars[round((height - low) * scale)] for height in heights)
    return line, "".join("^" if i in marked else " " for i in range(len(heights))).rstrip()


def _value(point: Point) -> str:
    is_counted = point.low is None and point.high is None
    value = number(point.value) if is_counted else with_ends(point.value, point.low, point.high)
    return f"{value} {plain(point.verdict)}"


def with_ends(value: float, low: float | None, high: float | None) -> str:
    """Such as ``1.52 [1.49, open]``."""
    ends = ["open" if end is None else number(end) for end in (low, high)]
    return f"{number(value)} {outside(value, low, high, number)}[{ends[0]}, {ends[1]}]"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"

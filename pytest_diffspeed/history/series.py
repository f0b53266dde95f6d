"""Series of a history with what changed in them: the one reader of reports and of ``show``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, func, select

from ..common.text import plural
from ..records.series import Change, Drift, Point, Series
from ..statistics.changes import find_jumps
from ..statistics.drift import SlowChange, find_drift
from .store import Store
from .tables import POINT, SERIES, SESSION
from .url import StoreUrl, parse_store

LAST = 1000
"""So many of the newest points of a series are looked at, unless the caller says else."""


def series_of(
    store_url: StoreUrl | str,
    rootdir: Path,
    *,
    test: str | None = None,
    stack: str | None = None,
    machine: str | None = None,
    last: int = LAST,
    anchor: str | None = None,
) -> list[Series]:
    """The series of a store, with their jumps and drift; empty where nothing was stored yet.

    Args:
        store_url: as ``--diffspeed-store``.
        rootdir: from where a relative path in it starts.
        test: the series of this test only; other words narrow down further.
        stack: of this stack only.
        machine: of this environment only; the beginning of its digest is enough.
        last: the newest points of each series.
        anchor: the beginning of a commit's name, against which drift is told (a series without it
            tells none); without it the beginning of the series.

    Raises:
        UsageError: no store can be meant.
        StoreError: the store cannot be read.
    """
    url = parse_store(store_url) if isinstance(store_url, str) else store_url
    if url is None:
        return []
    store = Store(url, rootdir)
    if not store.is_there:
        return []
    with store.reading() as connection:
        return list(read_series(connection, test, stack, machine, last, anchor))


def read_series(
    connection: Connection,
    test: str | None = None,
    stack: str | None = None,
    machine: str | None = None,
    last: int = LAST,
    anchor: str | None = None,
) -> Iterator[Series]:
    """As :func:`series_of`, one at a time; those of one test stand as they go on in time."""
    wanted = in_order(select(SERIES))
    if test is not None:
        wanted = _as_they_go_on(select(SERIES)).where(SERIES.c.test == test)
    if stack is not None:
        wanted = wanted.where(SERIES.c.stack == stack)
    if machine is not None:
        wanted = wanted.where(SERIES.c.machine.startswith(machine, autoescape=True))
    for row in connection.execute(wanted).all():
        points = _points(connection, row.id, last)
        if points:
            yield _looked_at(row, points, anchor)


def in_order(query: Select[Any]) -> Select[Any]:
    """Series of one environment stand together, then those of one test."""
    columns = SERIES.c
    return query.order_by(
        columns.machine_name,
        columns.machine,
        columns.condition,
        columns.test,
        columns.stack,
        columns.claim,
        columns.figure,
    )


def _as_they_go_on(query: Select[Any]) -> Select[Any]:
    """One figure's series in all environments stand together, in the order in which they end."""
    columns = SERIES.c
    newest = select(func.max(POINT.c.order_s)).where(POINT.c.series_id == columns.id)
    return query.order_by(
        *(columns.stack, columns.claim, columns.figure, columns.condition),
        newest.correlate(SERIES).scalar_subquery(),
        columns.id,
    )


def tests_like(connection: Connection, text: str) -> list[str]:
    """The test called ``text``, else all whose names hold it."""
    names = select(SERIES.c.test).distinct().order_by(SERIES.c.test)
    exact = connection.execute(names.where(SERIES.c.test == text)).scalars().all()
    if exact:
        return list(exact)
    return list(connection.execute(names.where(holds(SERIES.c.test, text))).scalars())


def holds(column: Column[str], text: str) -> ColumnElement[bool]:
    """Whether ``text`` stands in a column, in large or small letters."""
    return func.lower(column).contains(text.lower(), autoescape=True)


def iso(seconds: float) -> str:
    """A moment in seconds since 1970, to the second."""
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return "unknown"


def _points(connection: Connection, series: int, last: int) -> list[Point]:
    newest = (
        select(
            POINT,
            *(SESSION.c[name] for name in ("name", "commit_name", "subject", "dirty")),
        )
        .join(SESSION, SESSION.c.id == POINT.c.session_id)
        .where(POINT.c.series_id == series)
        .order_by(POINT.c.order_s.desc(), POINT.c.at_s.desc(), POINT.c.id.desc())
        .limit(last)
    )
    return [
        Point(
            at=iso(row.order_s),
            commit=row.commit_name,
            subject=row.subject,
            value=row.value,
            low=row.low,
            high=row.high,
            verdict=row.verdict,
            dirty=row.dirty,
            session=row.name,
        )
        for row in reversed(connection.execute(newest).all())
    ]


def _looked_at(row: Row[Any], points: Sequence[Point], anchor: str | None) -> Series:
    """The series with its changes; points of dirty trees stand for no commit and are left out."""
    clean = [index for index, point in enumerate(points) if not point.dirty]
    values = [points[index].value for index in clean]
    jumps = find_jumps(
        values,
        is_counted=row.is_counted,
        lows=[points[index].low for index in clean],
        highs=[points[index].high for index in clean],
    )
    changes = [
        Change(
            index=clean[jump.index],
            before=jump.before,
            after=jump.after,
            after_commit=points[clean[jump.first - 1]].commit,
            by_commit=points[clean[jump.last]].commit,
        )
        for jump in jumps
    ]
    drift = None
    if not row.is_counted:
        start = _anchor(points, clean, anchor)
        if start is not None:
            slow = find_drift(values, [jump.index for jump in jumps], anchor=start)
            if slow is not None:
                drift = _drift(slow, points[clean[start]], len(values) - start)
    return Series(
        test=row.test,
        stack=row.stack,
        claim=row.claim,
        figure=row.figure,
        better=row.better,
        machine=row.machine,
        points=points,
        changes=changes,
        drift=drift,
        machine_name=row.machine_name,
        condition=row.condition,
        is_counted=row.is_counted,
    )


def _anchor(points: Sequence[Point], clean: Sequence[int], commit: str | None) -> int | None:
    """The position among the clean points of the anchor; the first one where none is named."""
    for position, index in enumerate(clean):
        if commit is None or (points[index].commit or "").startswith(commit):
            return position
    return None


def _drift(slow: SlowChange, at: Point, count: int) -> Drift:
    since = f"since {at.at[:10]}" + ("" if at.commit is None else f" ({at.commit[:10]})")
    levels = f"anchor {slow.anchor:.4g}, now {slow.now:.4g}"
    if slow.is_shown:
        percent = "" if not slow.anchor else f" ({100 * slow.drifted / abs(slow.anchor):+.1f} %)"
        sentence = f"slow drift of {slow.drifted:+.3g}{percent} {since}, jumps apart; {levels}"
    elif not slow.could_be_shown:
        sentence = f"{plural(count, 'point')} {since}: too few to tell drift from noise; {levels}"
    else:
        sentence = f"no drift beyond the noise of {count} points {since}; {levels}"
    return Drift(slow.anchor, slow.now, slow.is_shown, sentence)

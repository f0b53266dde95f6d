"""A history test by test, for what shows all of it: only one test is held at a time."""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from sqlalchemy import Connection, and_, func, select

from ..records.history_of_test import DrawnPictures, HistoryOfTest, HistorySize
from ..records.series import Series
from .environments import differences, environment_of
from .series import LAST, iso, read_series
from .speed_index import read_indexes
from .tables import POINT, RECORD, SERIES, SESSION

MOST_MOMENTS = 24
"""Newest sessions of a test whose pictures are looked for."""
MOST_EXPLAINED = 60
"""Changes of counts of a test whose gates are looked up, the newest."""
_PICTURES = '"pictures"'


def read_size(connection: Connection) -> HistorySize:
    """How much there is; of an empty store all is 0 and its ends are ``""``."""
    when = func.coalesce(SESSION.c.committed_s, SESSION.c.at_s)
    of_sessions = select(
        func.count(),
        func.count(SESSION.c.commit_name.distinct()),
        func.min(when),
        func.max(when),
    ).select_from(SESSION)
    sessions, commits, first, last = connection.execute(of_sessions).one()
    points = connection.execute(select(func.count()).select_from(POINT)).scalar_one()
    ends = ("" if end is None else iso(end) for end in (first, last))
    return HistorySize(sessions, points, commits, *ends)


def read_histories(connection: Connection, last: int = LAST) -> Iterator[HistoryOfTest]:
    """Each test that has a series, in the order of names.

    Args:
        connection: to a history.
        last: the newest points of each series.
    """
    names = connection.execute(select(SERIES.c.test).distinct()).scalars().all()
    indexes = defaultdict(list)
    for index in read_indexes(connection):
        indexes[index.test].append(index)
    pictures = _named_pictures(connection)
    differing_of = functools.cache(
        lambda before, after: differences(
            *(environment_of(connection, machine) for machine in (before, after))
        )
    )
    for test in sorted(names):  # as Python orders texts: databases do it by their collation
        series = list(read_series(connection, test, last=last))
        if not series:  # its sessions were pruned
            continue
        yield HistoryOfTest(
            test=test,
            series=series,
            indexes=indexes[test],
            differing={
                place: differing_of(before.machine, after.machine)
                for place, (before, after) in enumerate(pairwise(series), 1)
                if before.goes_on_in(after)
            },
            gates=_gates_at_changes(connection, test, series),
            drawn=[_drawn(connection, test, one) for one in pictures[test][:MOST_MOMENTS]],
        )


def _gates_at_changes(
    connection: Connection, test: str, series: Sequence[Series]
) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    changes = [
        (one.points[change.index].at, one, change)
        for one in series
        if one.is_counted
        for change in one.changes
    ]
    changes.sort(key=lambda entry: entry[0], reverse=True)
    wanted: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for _, one, change in changes[:MOST_EXPLAINED]:
        for point in (one.before(change), one.points[change.index]):
            if point.session is not None:
                wanted[point.session].add((one.stack, one.claim))
    found: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for session, gates in wanted.items():
        lines = (
            select(RECORD.c.content)
            .join(SESSION, SESSION.c.id == RECORD.c.session_id)
            .where(SESSION.c.name == session, RECORD.c.kind == "gate")
            .order_by(RECORD.c.position)
        )
        for content in connection.execute(lines).scalars():
            gate = json.loads(content)
            if gate["test"] == test and (gate["stack"], gate["claim"]) in gates:
                found[session, gate["stack"], gate["claim"]] = gate["figures"]
    return found


@dataclass(frozen=True)
class _Named:
    """A gate's record that names pictures."""

    record: int
    is_newest: bool


def _named_pictures(connection: Connection) -> defaultdict[str, list[_Named]]:
    """By test, the newest session first; of a gate that ran several times the last run."""
    lines = (
        select(RECORD.c.id, RECORD.c.content, SESSION.c.id.label("session"))
        .join(SESSION, SESSION.c.id == RECORD.c.session_id)
        .where(and_(RECORD.c.kind == "gate", RECORD.c.content.contains(_PICTURES, autoescape=True)))
        .order_by(SESSION.c.at_s.desc(), SESSION.c.name.desc(), RECORD.c.position.desc())
    )
    found: defaultdict[str, list[_Named]] = defaultdict(list)
    rows = connection.execute(lines.execution_options(yield_per=500))
    drawn_later: set[str] = set()
    for _, of_session in groupby(rows, key=lambda row: row.session):
        gates: set[tuple[str, str, str]] = set()
        own: set[str] = set()
        for row in of_session:
            gate = json.loads(row.content)
            who = gate["test"], gate["stack"], gate["claim"]
            files = _files(gate["figures"])
            if not files or who in gates:
                continue
            gates.add(who)
            is_newest = drawn_later.isdisjoint(files)
            found[gate["test"]].append(_Named(row.id, is_newest))
            own.update(files)
        drawn_later |= own
    return found


def _files(figures: Mapping[str, Any]) -> list[str]:
    files = figures.get("pictures")
    return [file for file in files if isinstance(file, str)] if isinstance(files, list) else []


def _drawn(connection: Connection, test: str, named: _Named) -> DrawnPictures:
    row = connection.execute(
        select(
            RECORD.c.content,
            *(SESSION.c[name] for name in ("name", "commit_name", "subject")),
            func.coalesce(SESSION.c.committed_s, SESSION.c.at_s).label("order_s"),
        )
        .join(SESSION, SESSION.c.id == RECORD.c.session_id)
        .where(RECORD.c.id == named.record)
    ).one()
    gate = json.loads(row.content)
    return DrawnPictures(
        session=row.name,
        at=iso(row.order_s),
        commit=row.commit_name,
        subject=row.subject,
        stack=gate["stack"],
        claim=gate["claim"],
        verdict=gate["verdict"],
        figures=gate["figures"],
        files=_files(gate["figures"]),
        is_newest=named.is_newest,
    )

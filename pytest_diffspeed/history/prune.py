"""Forget old sessions, with their records and points."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from .store import Store
from .tables import POINT, RECORD, SERIES, SESSION

_DAY_S = 86400.0


@dataclass(frozen=True)
class Pruned:
    """How many ``sessions`` go (with so many ``records``), and how many are ``kept``."""

    sessions: int
    records: int
    kept: int


def prune(
    store: Store, *, keep: int | None = None, keep_days: float | None = None, really: bool = False
) -> Pruned:
    """Forget sessions that are neither among the newest ``keep`` nor of the last ``keep_days``.

    A limit that is ``None`` keeps nothing by itself; at least one must be given.  Without
    ``really`` everything stays and is only counted.

    Raises:
        StoreError: the store cannot be written.
    """
    assert keep is not None or keep_days is not None, "unreachable because the command checks it"
    if not really:
        with store.reading() as connection:
            return _counted(connection, _old(keep, keep_days))
    with store.writing(alone=True) as connection:
        old = list(connection.execute(_old(keep, keep_days)).scalars())
        counted = _counted(connection, _old(keep, keep_days))
        for start in range(0, len(old), 500):
            some = old[start : start + 500]
            connection.execute(delete(SESSION).where(SESSION.c.id.in_(some)))
        has_points = select(POINT.c.id).where(POINT.c.series_id == SERIES.c.id).exists()
        connection.execute(delete(SERIES).where(~has_points))
    if counted.sessions:
        store.compact()
    return counted


def _old(keep: int | None, keep_days: float | None) -> Select[Any]:
    query = select(SESSION.c.id)
    if keep_days is not None:
        query = query.where(SESSION.c.at_s < time.time() - keep_days * _DAY_S)
    if keep is not None:
        newest = select(SESSION.c.id).order_by(SESSION.c.at_s.desc(), SESSION.c.id.desc())
        query = query.where(SESSION.c.id.not_in(newest.limit(keep)))
    return query


def _counted(connection: Connection, old: Select[Any]) -> Pruned:
    def count(query: Select[Any]) -> int:
        return int(connection.execute(query).scalar_one())

    every = count(select(func.count()).select_from(SESSION))
    sessions = count(select(func.count()).select_from(old.subquery()))
    records = count(select(func.count()).select_from(RECORD).where(RECORD.c.session_id.in_(old)))
    return Pruned(sessions, records, every - sessions)

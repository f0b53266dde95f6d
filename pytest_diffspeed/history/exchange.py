"""Sessions in and out of a history as JSON lines, a session at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ..common.errors import RecordError
from ..records.lines import each_line
from .record import add_session
from .store import Store
from .tables import RECORD, SESSION

_AT_ONCE = 2000


@dataclass
class Imported:
    """What an import did so far: sessions that are ``stored`` or were ``known``, and lines that are
    no records (``left_out``) or belong to no session (``stray``).
    """

    stored: int = 0
    known: int = 0
    points: int = 0
    left_out: int = 0
    stray: int = 0


def export_lines(store: Store) -> Iterator[str]:
    """Every record, as it was written; sessions in the order in which they were stored.

    Raises:
        StoreError: the store cannot be read.
    """
    lines = select(RECORD.c.content).order_by(RECORD.c.session_id, RECORD.c.position)
    with store.reading() as connection:
        rows = connection.execution_options(yield_per=_AT_ONCE).execute(lines)
        for (content,) in rows:
            yield f"{content}\n"


def import_file(store: Store, path: Path, on_group: Callable[[Imported], None]) -> Imported:
    """Store the sessions of a file: of an export, of ``--diffspeed-json``, or a journal.

    Sessions are stored in groups as they are read, and ``on_group`` is told after each; those
    before an error are kept, and importing the file again stores nothing twice.

    Raises:
        RecordError: no session stands in the file, or its records are of another major version.
        StoreError: the store cannot be written.
    """
    done = Imported()
    for sessions in _groups(_sessions(path, done)):
        with store.writing() as connection:
            found = [add_session(connection, records) for records in sessions]
        for stored in found:
            done.stored += stored.is_new
            done.known += not stored.is_new
            done.points += stored.points
        on_group(done)
    if not done.stored + done.known:
        raise RecordError(
            f"{path} holds no session ({done.left_out + done.stray} lines were looked at): "
            "diffspeed history import reads what --diffspeed-json or diffspeed history export "
            "wrote, and the journals in .diffspeed/records"
        )
    return done


def _groups(sessions: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    """A transaction each: a commit takes as long as a hundred records do."""
    group: list[list[Any]] = []
    for records in sessions:
        group.append(records)
        if sum(map(len, group)) >= _AT_ONCE:
            yield group
            group = []
    if group:
        yield group


def _sessions(path: Path, done: Imported) -> Iterator[list[dict[str, Any]]]:
    """The records of each session; only one is held at a time."""
    records: list[dict[str, Any]] = []
    for record in each_line(path):
        if record is None:
            done.left_out += 1
        elif record["kind"] == "session":
            if records:
                yield records
            records = [record]
        elif records:
            records.append(record)
        else:
            done.stray += 1
    if records:
        yield records


def lines_of(store: Store, kinds: Sequence[str], *, newest: int = 50) -> list[list[dict[str, Any]]]:
    """The records of these kinds, of each of the newest sessions.

    Raises:
        StoreError: the store cannot be read.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    with store.reading() as connection:
        latest = select(SESSION.c.id).order_by(SESSION.c.at_s.desc()).limit(newest)
        lines = (
            select(RECORD.c.session_id, RECORD.c.content)
            .where(RECORD.c.session_id.in_(latest), RECORD.c.kind.in_(kinds))
            .order_by(RECORD.c.session_id, RECORD.c.position)
        )
        for session, content in connection.execute(lines):
            found.setdefault(session, []).append(json.loads(content))
    return list(found.values())

"""Put a session into a history: its records word for word, and its figures as points.

One transaction a session: it is there whole, or not at all.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from ..common.errors import StoreError
from ..common.text import plural
from ..common.workdir import workdir
from ..records.finished import FinishedSession
from ..records.journal import as_line, write_all
from ..records.reader import by_session, recorded_session
from .environments import digest_of
from .figures import FollowedFigure, figures_of
from .store import Store
from .tables import POINT, RECORD, SERIES, SESSION
from .url import StoreUrl, parse_store

_EVIDENCE = ("gate", "pair", "ladder")
_BATCH = 1000
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What a database refuses in a text: PostgreSQL NUL, and both what UTF-8 cannot say."""


def write(target: StoreUrl | str, finished: FinishedSession) -> str | None:
    """The writer of ``--diffspeed-store``: stores a finished session, or several in one transaction
    where workers on other machines took part.

    Raises:
        StoreError: it could not be stored; the sentence says where the records are kept and how to
            store them later.
    """
    url = parse_store(target) if isinstance(target, str) else target
    if url is None or not any(record["kind"] in _EVIDENCE for record in finished.records):
        return None
    store = Store(url, finished.rootdir, on_wait=finished.say)
    try:
        with store.writing() as connection:
            stored = [add_session(connection, of_one) for of_one in by_session(finished.records)]
    except StoreError as error:
        raise StoreError(f"{error}. {_kept(url, finished)}") from None
    where = store.url.path if url.is_default else url
    again = "" if any(one.is_new for one in stored) else " (was there already)"
    args = ["diffspeed", "history", "list", *([] if url.is_default else ["--store", str(url)])]
    figures = plural(sum(one.points for one in stored), "figure")
    return f"history: {figures} in {where}{again}; see {shlex.join(args)}"


@dataclass(frozen=True)
class Stored:
    """What became of a session: ``is_new`` is ``False`` where all of it was there already."""

    name: str
    is_new: bool
    points: int


def add_session(connection: Connection, records: Sequence[Mapping[str, Any]]) -> Stored:
    """Store the records of one session, the ``session`` line first.

    A session that is there already stays as it is, unless ``records`` tell more: the journal of a
    session that still ran may have been imported before.
    """
    about = _About.of(records[0])
    evidence = sum(record["kind"] in _EVIDENCE for record in records)
    row = {
        "name": about.name,
        "at": about.at,
        "at_s": about.at_s,
        "committed_s": about.committed_s,
        "commit_name": about.commit,
        "subject": about.subject,
        "dirty": about.dirty,
        "machine": about.machine,
        "machine_name": about.machine_name,
        "evidence_lines": evidence,
    }
    number = _insert_new(connection, row)
    if number is None:
        known = connection.execute(
            select(SESSION.c.id, SESSION.c.evidence_lines).where(SESSION.c.name == about.name)
        ).one()
        if known.evidence_lines >= evidence:
            return Stored(about.name, False, 0)
        connection.execute(delete(SESSION).where(SESSION.c.id == known.id))
        number = _insert_new(connection, row)
        assert number is not None, "unreachable because the row was deleted in this transaction"
    for batch in _batches(enumerate(records)):
        rows = [_record_row(number, position, record) for position, record in batch]
        connection.execute(insert(RECORD), rows)
    figures = figures_of(recorded_session(records, Path()))
    series = _series_ids(connection, about, figures)
    points = [
        {
            "series_id": series[about.digest(figure)],
            "session_id": number,
            "order_s": about.at_s if about.committed_s is None else about.committed_s,
            "at_s": about.at_s,
            "value": figure.value,
            "low": figure.low,
            "high": figure.high,
            "verdict": figure.verdict,
        }
        for figure in figures
    ]
    for many in _batches(points):
        connection.execute(insert(POINT), many)
    return Stored(about.name, True, len(points))


def machine_of(about: Mapping[str, Any]) -> str:
    """The fingerprint of the environment of a ``session`` line: ratios of one may be compared."""
    machine = about.get("machine")
    return machine if isinstance(machine, str) and machine else _digest_of(about["environment"])


@dataclass(frozen=True)
class _About:
    """A ``session`` line as columns."""

    name: str
    at: str
    at_s: float
    committed_s: float | None
    commit: str | None
    subject: str | None
    dirty: bool
    machine: str
    machine_name: str
    pipeline: str
    call: str
    """What the user said of calls, after the pipeline: ``, 4 steps``."""
    base: str
    """After that: ``, base main``."""

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> _About:
        at_s = seconds(about["at"])
        name = str(about["session"])
        return cls(
            # A name that no session of ours has is not trusted to fit the column.
            name=name if re.fullmatch(r"[0-9A-Za-z-]{1,64}", name) else _digest_of(name),
            at=_storable(about["at"]),
            at_s=0.0 if at_s is None else at_s,
            committed_s=seconds(about.get("committed_at")),
            commit=_optional(about.get("commit")),
            subject=_optional(about.get("subject")),
            dirty=bool(about.get("dirty")),
            machine=_storable(machine_of(about)),
            machine_name=_storable(about["device"].get("name", "unknown device")),
            pipeline=str(about.get("pipeline", "unknown pipeline")),
            call=call_of(about),
            base=_base_of(about),
        )

    def condition(self, figure: FollowedFigure) -> str:
        """What was called for a figure: pipeline, steps, prompts, base.

        Figures of one test under another condition are another series.  What is counted of this
        tree alone has no base, which a CI names anew for each commit.
        """
        source = self.pipeline if figure.source is None else figure.source
        base = self.base if figure.counted_under is None else ""
        return _storable(f"{source}{self.call}{base}")

    def environment(self, figure: FollowedFigure) -> tuple[str, str]:
        """The digest of what a figure rests on, and the name of its device."""
        under = figure.counted_under
        if under is None:
            return self.machine, self.machine_name
        return digest_of(under), _storable(f"{under.get('device', 'no device')} (counted)")

    def digest(self, figure: FollowedFigure) -> str:
        """The name of the series that a figure of this session belongs to."""
        return _digest_of(
            [
                *(figure.test, figure.stack, figure.claim, figure.figure),
                *(self.environment(figure)[0], self.condition(figure)),
            ]
        )


def call_of(about: Mapping[str, Any]) -> str:
    """Such as ``, 4 steps``; what the user left to the source is not named."""
    options = about.get("options")
    options = options if isinstance(options, Mapping) else {}
    parts = [""]
    steps, prompts = options.get("steps"), options.get("prompts")
    if steps is not None:
        parts.append(f"{steps} step{'' if steps == 1 else 's'}")
    if prompts:
        parts.append(f"prompts {_digest_of(prompts)[:8]}")
    return ", ".join(parts)


def _base_of(about: Mapping[str, Any]) -> str:
    """Such as ``, base main``; nothing of a session without one."""
    base = about.get("base")
    if not isinstance(base, Mapping):
        return ""
    python = base.get("python")
    return f", base {base.get('rev')}{'' if python is None else f' with {python}'}"


def _series_ids(
    connection: Connection, about: _About, figures: Iterable[FollowedFigure]
) -> dict[str, int]:
    """Ids of the series of all figures by digest, made where they are new.

    In the order of digests, so that two writers that make the same ones cannot wait for each other.
    """
    rows = {
        about.digest(figure): {
            "digest": about.digest(figure),
            "test": _storable(figure.test),
            "stack": _storable(figure.stack),
            "claim": _storable(figure.claim),
            "figure": _storable(figure.figure),
            "better": figure.better,
            "is_counted": figure.is_counted,
            "machine": about.environment(figure)[0],
            "machine_name": about.environment(figure)[1],
            "condition": about.condition(figure),
        }
        for figure in figures
    }
    ids: dict[str, int] = {}
    for digests in _batches(sorted(rows)):
        wanted = select(SERIES.c.digest, SERIES.c.id).where(SERIES.c.digest.in_(digests))
        known = {digest: number for digest, number in connection.execute(wanted)}
        new = [rows[digest] for digest in digests if digest not in known]
        if new:
            connection.execute(_or_nothing(connection, SERIES, "digest"), new)
            known = {digest: number for digest, number in connection.execute(wanted)}
        ids |= known
    return ids


def _insert_new(connection: Connection, row: Mapping[str, Any]) -> int | None:
    """The id of a new session, ``None`` where it is there.  Waits for a process that inserts it."""
    statement = _or_nothing(connection, SESSION, "name").returning(SESSION.c.id)
    found: int | None = connection.execute(statement, row).scalar()
    return found


def _or_nothing(connection: Connection, table: Any, column: str) -> Any:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing(index_elements=[column])


def _record_row(session: int, position: int, record: Mapping[str, Any]) -> dict[str, Any]:
    content = as_line(record).rstrip("\n")
    if _UNSTORABLE.search(content):  # written as \udc80, which JSON allows and UTF-8 does not
        content = json.dumps(json.loads(content), ensure_ascii=True)
    return {
        "session_id": session,
        "position": position,
        "kind": _storable(record["kind"]),
        "content": content,
    }


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _kept(url: StoreUrl, finished: FinishedSession) -> str:
    """Write what could not be stored beside the journals, and say how to store it."""
    path = (
        workdir(finished.rootdir)
        / "unstored"
        / time.strftime(
            f"%Y%m%dT%H%M%S-{str(finished.records[0].get('session', 'unknown'))[:8]}.jsonl",
            time.gmtime(),
        )
    )
    try:
        path.parent.mkdir(exist_ok=True)
        write_all(path, finished.records)
    except OSError as error:
        journals = workdir(finished.rootdir) / "records"
        return (
            f"The records are in the newest journals in {journals} (a copy could not be written: "
            f"{error.strerror}); store them with: diffspeed history import FILE"
        )
    args = ["diffspeed", "history", "import", str(path)]
    args += [] if url.is_default else ["--store", str(url)]
    return f"Nothing is lost; store it later with: {shlex.join(args)}"


def seconds(text: object) -> float | None:
    """Seconds since 1970 of an ISO 8601 time; ``None`` where it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _storable(text: object) -> str:
    return _UNSTORABLE.sub("�", str(text))


def _optional(text: object) -> str | None:
    return None if text is None else _storable(text)


def _digest_of(content: object) -> str:
    if isinstance(content, Mapping):
        return digest_of(content)
    plain = json.dumps(content, ensure_ascii=True, sort_keys=True)
    return sha256(plain.encode("ascii")).hexdigest()[:32]

"""The tables of a history, as the newest migration leaves them.

A ``session`` owns its ``record`` lines, word for word, and the ``point`` that each of its figures
is in a ``series``.  Deleting a session deletes both.  Texts that come from tests are never part of
an index, since PostgreSQL bounds the size of an index row: a series is found by a digest.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()

_CASCADE = "CASCADE"

SESSION = Table(
    "session",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),  # the record's `session`, or a digest
    Column("at", Text, nullable=False),
    Column("at_s", Double, nullable=False),  # the same in seconds since 1970
    Column("committed_s", Double),
    Column("commit_name", Text),
    Column("subject", Text),
    Column("dirty", Boolean, nullable=False),
    Column("machine", Text, nullable=False),
    Column("machine_name", Text, nullable=False),
    Column("evidence_lines", Integer, nullable=False),  # gates and pairs: which copy holds more
    Index("session_at", "at_s"),
)

RECORD = Table(
    "record",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("session_id", Integer, ForeignKey("session.id", ondelete=_CASCADE), nullable=False),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("content", Text, nullable=False),  # one line of JSON
    Index("record_of_session", "session_id", "position", unique=True),
)

SERIES = Table(
    "series",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("digest", String(32), nullable=False, unique=True),
    Column("test", Text, nullable=False),
    Column("stack", Text, nullable=False),
    Column("claim", Text, nullable=False),
    Column("figure", Text, nullable=False),
    Column("better", String(6), nullable=False),  # higher, lower
    Column("is_counted", Boolean, nullable=False),
    Column("machine", Text, nullable=False),
    Column("machine_name", Text, nullable=False),
    Column("condition", Text, nullable=False),
)

POINT = Table(
    "point",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("series_id", Integer, ForeignKey("series.id", ondelete=_CASCADE), nullable=False),
    Column("session_id", Integer, ForeignKey("session.id", ondelete=_CASCADE), nullable=False),
    # Of the commit, where there is one: sessions of an older commit measured today belong there.
    Column("order_s", Double, nullable=False),
    Column("at_s", Double, nullable=False),
    Column("value", Double, nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("verdict", Text, nullable=False),
    Index("point_in_series", "series_id", "order_s", "at_s"),
    Index("point_of_session", "session_id", "series_id", unique=True),
)

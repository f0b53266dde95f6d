"""Open a history: connections, transactions, and errors without passwords."""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, func, select
from sqlalchemy.exc import DBAPIError

from ..common.errors import StoreError
from ..common.workdir import workdir
from .migrate import HEAD, migrate, revision
from .url import PASSWORD_VARIABLE, StoreUrl

WAIT_S = 60.0
"""How long a process waits for the others that write to the same SQLite file."""
SILENT_S = 2.0
"""How long of that without a word."""
CONNECT_S = 10
"""How long a PostgreSQL server may take to answer."""
_WRITES = "diffspeed_writes"
_LOCK = 0x68697374  # "hist"


class Store:
    """A history at ``url``, whose relative path starts from ``rootdir``.

    Every method that touches the database raises :class:`StoreError`, one sentence without secrets.
    """

    def __init__(
        self,
        url: StoreUrl,
        rootdir: Path,
        *,
        on_wait: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.asked = url
        self._on_wait = on_wait
        self.url = url.under(rootdir)
        self._rootdir = rootdir
        self._engine: Engine | None = None

    @property
    def is_there(self) -> bool:
        """``False`` for a SQLite file that nobody has written yet."""
        return self.url.backend != "sqlite" or self.url.path.exists()

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """One transaction, all of it or nothing; the tables are there.

        ``alone`` keeps other writers out, for what must not pull rows from under them.  In SQLite
        each writer is alone.
        """
        with self._errors("write to"):
            if self.asked.is_default:
                workdir(self._rootdir)  # with its .gitignore
            with self._connection(writes=True) as connection, connection.begin():
                migrate(connection)
                if connection.dialect.name == "postgresql":
                    lock = f"pg_advisory_xact_lock{'' if alone else '_shared'}"
                    connection.execute(select(getattr(func, lock)(_LOCK)))
                yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view of a store that is there already, brought to the newest schema.

        Raises:
            StoreError: nothing was stored there yet.
        """
        with self._errors("read"):
            if not self.is_there:
                raise StoreError(
                    f"there is no history in {self.url.path} yet: a session of pytest --diffspeed "
                    "stores one, and diffspeed history import FILE one that was recorded"
                )
            with self._connection(writes=False) as connection, connection.begin():
                known = revision(connection)
            if known != HEAD:
                with self.writing():
                    pass
            with self._connection(writes=False) as connection, connection.begin():
                yield connection

    def compact(self) -> None:
        """Give the space of what was deleted back to the disk; left for later if others are busy.

        PostgreSQL does so by itself.
        """
        if self.url.backend != "sqlite":
            return
        with self._errors("compact"), self._connection(writes=False) as connection:
            raw: Any = connection.connection.dbapi_connection
            try:
                raw.execute("VACUUM")
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.OperationalError:
                return

    @contextmanager
    def _connection(self, *, writes: bool) -> Iterator[Connection]:
        if self._engine is None:
            self._engine = _engine(self.url, self._tell_wait)
        with self._engine.connect() as connection:
            yield connection.execution_options(**{_WRITES: writes})

    def _tell_wait(self) -> None:
        self._on_wait(
            f"another process writes to the history {self.asked}; waiting for it, at most "
            f"{WAIT_S:.0f} s"
        )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, sqlite3.Error, ImportError) as error:
            # Without its cause: a traceback would show the driver's own words, and arguments.
            sentence = f"cannot {doing} the history {self.asked}: {_first_lines(error)}"
            raise StoreError(self.url.redact(sentence)) from None


def _engine(url: StoreUrl, on_wait: Callable[[], None]) -> Engine:
    if url.backend == "sqlite":
        # Pages that a stopped process left half-written are mended by SQLite's own journal.
        target = URL.create("sqlite", database=url.database)
        engine = create_engine(
            target, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": SILENT_S}
        )
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", functools.partial(_begin_sqlite, on_wait=on_wait))
        return engine
    password = url.password if url.password is not None else os.environ.get(PASSWORD_VARIABLE)
    # libpq reads PGPASSWORD and ~/.pgpass itself, where there is none of ours.
    target = URL.create(
        "postgresql+psycopg",
        username=url.username,
        password=password,
        host=url.host,
        port=url.port,
        database=url.database,
        query={"connect_timeout": str(CONNECT_S), **dict(url.query)},
    )
    # REPEATABLE READ would make two writers of one series fail each other; READ COMMITTED lets the
    # second wait for the first.
    return create_engine(
        target, poolclass=NullPool, hide_parameters=True, isolation_level="READ COMMITTED"
    )


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Python's sqlite3 would begin transactions late and end them before DDL: we say BEGIN.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    deadline = time.monotonic() + WAIT_S
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            # Other processes open a new file at this moment; SQLite does not wait for this lock.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            if mode != "wal":  # a file system without shared memory: the older journal is safe too
                break


def _begin_sqlite(connection: Connection, on_wait: Callable[[], None]) -> None:
    # A transaction that reads first and writes later fails when another one wrote in between.
    writes = connection.get_execution_options().get(_WRITES, False)
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    raw: Any = connection.connection.dbapi_connection
    try:
        raw.execute(begin)
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        on_wait()
        raw.execute(f"PRAGMA busy_timeout={1000 * WAIT_S:.0f}")
        raw.execute(begin)
    # What is written later in it finds a lock of its own, and waits as long.
    raw.execute(f"PRAGMA busy_timeout={1000 * WAIT_S:.0f}")


def _first_lines(error: BaseException) -> str:
    """What the driver said, without SQLAlchemy's statement and links."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    sentence = " ".join(str(origin).split()) or type(origin).__name__
    return sentence if len(sentence) <= 400 else f"{sentence[:400]}…"

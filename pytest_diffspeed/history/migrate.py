"""Bring a store to the newest schema, inside the transaction of whoever opened it.

The migrations lie in ``migrations/``, in the wheel too.  A store that is there already is asked for
its revision only, and alembic is not even imported: that is what a session's end costs.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from ..common.errors import StoreError

HEAD = "0001"
"""The newest revision; a test holds it against the migrations."""
FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x64696666  # "diff": one lock for the whole of a PostgreSQL database


def revision(connection: Connection) -> str | None:
    """The revision of a store; ``None``: there are no tables yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def migrate(connection: Connection) -> None:
    """Upgrade to ``HEAD``; processes that come at the same time wait for the first of them.

    SQLite: the caller's transaction holds the only write lock already.  PostgreSQL: an advisory
    lock, which the end of the transaction gives back.

    Raises:
        StoreError: a later version of this package has written there.
    """
    if revision(connection) == HEAD:
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    found = revision(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StoreError(
            f"the history was written by a later version of pytest-diffspeed (schema {found}; this "
            f"one knows up to {HEAD}): upgrade pytest-diffspeed, or name another store"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

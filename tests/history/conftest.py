"""Stores of both kinds: SQLite, and a real PostgreSQL server that this session starts."""

import itertools

import pytest
from servers import RunningServer, binaries

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.record import add_session
from pytest_diffspeed.history.store import Store
from pytest_diffspeed.history.url import DEFAULT, parse_store
from tests.services import leave_out

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql():
    """A running server.  Without its binaries these tests are left out, and say so."""
    folder = binaries()
    if folder is None:
        leave_out(
            "no PostgreSQL server on this machine (looked for initdb by pg_config, in "
            "/usr/lib/postgresql and on PATH), so what the history does on one is not tested; "
            "Debian and Ubuntu have it as postgresql"
        )
    with RunningServer(folder) as server:
        yield server


@pytest.fixture
def database(postgresql):
    """The name of a new, empty database."""
    name = f"history_{next(_numbers)}"
    with postgresql.connect() as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """An empty store of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'history.sqlite'}"
    server = request.getfixturevalue("postgresql")
    return server.url(request.getfixturevalue("database"))


@pytest.fixture
def store(store_url, tmp_path):
    return Store(parse_store(store_url), tmp_path)


@pytest.fixture
def add(store):
    """Store sessions, each a list of records, in one transaction; what became of the last one."""

    def add(*sessions):
        with store.writing() as connection:
            return [add_session(connection, records) for records in sessions][-1]

    return add


@pytest.fixture
def history(tmp_path, monkeypatch, capsys):
    """Run a command in a folder whose default store holds some sessions; lines, error, status."""
    monkeypatch.chdir(tmp_path)
    store = Store(parse_store(DEFAULT), tmp_path)

    def run(*words, sessions=()):
        if sessions:
            with store.writing() as connection:
                for records in sessions:
                    add_session(connection, records)
        status = main(["history", *words])
        out, err = capsys.readouterr()
        return out.splitlines(), err, status

    return run

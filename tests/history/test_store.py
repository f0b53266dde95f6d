"""The store: nothing is lost, nothing is stored twice, and it is readable whatever happened."""

import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from history_sessions import gate_lines, session, session_line
from sqlalchemy import func, select, text

from pytest_diffspeed.common.errors import RecordError, StoreError
from pytest_diffspeed.history import migrate
from pytest_diffspeed.history.exchange import export_lines, import_file, lines_of
from pytest_diffspeed.history.prune import prune
from pytest_diffspeed.history.record import add_session, write
from pytest_diffspeed.history.series import series_of
from pytest_diffspeed.history.store import Store
from pytest_diffspeed.history.tables import METADATA, POINT, RECORD, SERIES, SESSION
from pytest_diffspeed.history.url import parse_store
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.journal import as_line, write_all

HERE = Path(__file__).parent

WRITER = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from history_sessions import session
from pytest_diffspeed.history.record import add_session
from pytest_diffspeed.history.store import Store
from pytest_diffspeed.history.url import parse_store

store = Store(parse_store(sys.argv[2]), Path())
first, count = int(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
sys.stdin.readline()  # all start at once
for number in range(first, first + count):
    with store.writing() as connection:
        add_session(connection, session(number))
    print(number, flush=True)
"""


def writer(url, first, count):
    """A process that stores ``count`` sessions once it is sent a line."""
    words = [sys.executable, "-W", "error", "-c", WRITER, str(HERE), url, str(first), str(count)]
    return subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def counts(store):
    with store.reading() as connection:
        tables = SESSION, RECORD, SERIES, POINT
        return [connection.execute(select(func.count()).select_from(t)).scalar() for t in tables]


def nothing(done):
    pass


# --- round trips


def test_records_come_back_word_for_word(store, add, tmp_path):
    sessions = [session(number) for number in range(3)]
    add(*sessions)
    lines = [as_line(record) for records in sessions for record in records]
    assert list(export_lines(store)) == lines


def test_an_export_can_be_imported_and_exported_again(store, add, tmp_path):
    add(*(session(number, ratio=1 + number / 3) for number in range(5)))
    first = tmp_path / "first.jsonl"
    first.write_text("".join(export_lines(store)), encoding="utf-8")
    second = Store(parse_store(f"sqlite:///{tmp_path / 'second.sqlite'}"), tmp_path)
    done = import_file(second, first, nothing)
    assert (done.stored, done.known, done.points) == (5, 0, 10)
    assert "".join(export_lines(second)) == first.read_text(encoding="utf-8")
    assert counts(second) == counts(store)
    again = import_file(store, first, nothing)
    assert (again.stored, again.known) == (0, 5)


def test_machines_of_one_run_are_sessions_each(store, store_url, tmp_path):
    """Shards come as files, workers on other machines as one file; a killed one is completed."""
    machines = [session(number) for number in range(3)]
    write_all(tmp_path / "merged.jsonl", [record for one in machines[:2] for record in one])
    write_all(tmp_path / "killed.jsonl", machines[2][:4])
    files = [tmp_path / f"{name}.jsonl" for name in ("merged", "killed")]
    assert [import_file(store, file, nothing).stored for file in files] == [2, 1]
    # One transaction of one session that ran on all three.
    whole = FinishedSession([record for one in machines for record in one], tmp_path)
    said = write(store_url, whole)
    assert said.startswith("history: 2 figures in ") and "was there already" not in said
    assert counts(store)[:2] == [3, sum(map(len, machines))]
    assert "was there already" in write(store_url, whole)
    told = lines_of(store, ("session", "gate"), newest=2)
    assert len(told) == 2
    assert {record["kind"] for one in told for record in one} == {"session", "gate"}


def test_a_session_is_stored_once(store, add):
    assert add(session(1)).is_new
    before = counts(store)
    assert not add(session(1)).is_new
    assert counts(store) == before == [1, len(session(1)), 2, 2]


def test_a_session_imported_while_it_ran_is_completed(store, add):
    whole = session(1)
    add(whole[:4])
    assert add(whole).is_new
    assert counts(store) == [1, len(whole), 2, 2]
    assert not add(whole[:4]).is_new
    assert counts(store) == [1, len(whole), 2, 2]


def test_the_journal_of_a_killed_run_gives_its_figures(store, tmp_path):
    records = [session_line(3), *gate_lines(ratio=1.5)[:5]]  # four pairs, and no verdict
    journal = tmp_path / "killed.jsonl"
    journal.write_text("".join(map(as_line, records)) + '{"schema": "diffspeed/1", "ki')
    done = import_file(store, journal, nothing)
    assert (done.stored, done.left_out) == (1, 1)
    (series,) = series_of(store.url, tmp_path)
    assert [point.verdict for point in series.points] == ["INCONCLUSIVE"]
    assert series.points[0].value == pytest.approx(1.5, rel=0.01)


def test_another_major_version_is_refused(store, tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(path, session(1))
    path.write_text(path.read_text().replace("diffspeed/1", "diffspeed/2"))
    with pytest.raises(RecordError, match="reads diffspeed/1 only"):
        import_file(store, path, nothing)


def test_a_file_without_sessions_is_refused(store, tmp_path):
    path = tmp_path / "r.jsonl"
    write_all(path, gate_lines(ratio=1.5))
    with pytest.raises(RecordError, match=r"holds no session .9 lines"):
        import_file(store, path, nothing)


# --- hostile content


@pytest.mark.parametrize(
    "test",
    [
        "test_x.py::test_x['; DROP TABLE session; --]",
        "test_x.py::test_x[\0]",
        "test_x.py::test_x[\ud800]",
        "test_x.py::test_" + "ä" * 20_000,
        "test_x.py::test_x[%s %(a)s :b {c}]",
    ],
    ids=["sql", "nul", "surrogate", "long", "format"],
)
def test_any_test_name_can_be_stored(store, add, tmp_path, test):
    records = [session_line(1), *gate_lines(test=test, ratio=1.5)]
    add(records)
    (series,) = series_of(store.url, tmp_path)
    assert series.test == test.replace("\0", "�").replace("\ud800", "�")
    assert [json.loads(line) for line in export_lines(store)] == [
        json.loads(as_line(record)) for record in records
    ]


def test_figures_that_are_no_numbers_are_left_out(store, add, tmp_path):
    lines = gate_lines(ratio=1.5, breaks=0)
    for line in lines:
        if line["kind"] == "gate":
            line["figures"] |= {"ratio": "fast", "breaks": [[]]}
    add([session_line(1, committed_at="yesterday", options=7, base=[]), *lines])
    assert series_of(store.url, tmp_path) == []
    assert counts(store)[0] == 1


def test_a_remembered_failure_is_no_new_point(store, add, tmp_path):
    lines = gate_lines(ratio=1.5)
    (gate,) = (line for line in lines if line["kind"] == "gate")
    gate["figures"]["remembered_from"] = "2026-01-01T00:00:00+00:00"
    add([session_line(1), *lines])
    assert series_of(store.url, tmp_path) == []


def test_series_stand_apart_by_the_pipeline_that_a_gate_looked_at(store, add, tmp_path):
    """One test that names another pipeline today: its figures are another series, named so."""
    for number, source in enumerate(("random:sdxl-tiny", "random:flux-tiny", "random:sdxl-tiny")):
        lines = gate_lines(ratio=1.5)
        for line in lines:
            if line["kind"] == "gate":
                line["source"] = source
        add([session_line(number), *lines])
    found = {s.condition: len(s.points) for s in series_of(store.url, tmp_path)}
    assert found == {"random:sdxl-tiny, 4 steps": 2, "random:flux-tiny, 4 steps": 1}


def test_series_stand_apart_by_environment_and_condition(store, add, tmp_path):
    options = {"steps": 8, "prompts": []}
    add(session(1, breaks=None), session(2, breaks=None, machine="cd34" * 8))
    add(session(3, breaks=None, options=options), session(4, breaks=None))
    found = {(s.machine[:2], s.condition): len(s.points) for s in series_of(store.url, tmp_path)}
    assert found == {
        ("ab", "demo, 4 steps"): 2,
        ("cd", "demo, 4 steps"): 1,
        ("ab", "demo, 8 steps"): 1,
    }


# --- many processes


def test_eight_processes_that_find_no_store_lose_nothing(store, store_url):
    writers = [writer(store_url, 100 * number, 6) for number in range(8)]
    for process in writers:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
    for process in writers:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in writers:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, ""), out
    assert counts(store) == [48, 48 * len(session(0)), 2, 96]


def test_a_killed_writer_leaves_whole_sessions(store, store_url, add, tmp_path):
    add(session(0))
    shuffle = random.Random(7)
    told = 1
    for turn in range(1, 9):
        process = writer(store_url, 10_000 * turn, 10_000)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(shuffle.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        told += 1 + len(process.communicate(timeout=60)[0].splitlines())
        sessions, records, series, points = counts(store)
        # What was told is there; one more may have been written and not told.
        assert told <= sessions <= told + turn
        assert (records, series, points) == (sessions * len(session(0)), 2, 2 * sessions)
    if store.url.backend == "sqlite":
        with contextlib.closing(sqlite3.connect(store.url.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    add(session(1))
    (ratio, _) = sorted(series_of(store.url, tmp_path, last=10**6), key=lambda s: s.better)
    assert len(ratio.points) == counts(store)[0]


def test_pruning_beside_writers_loses_none_of_theirs(store, store_url, add):
    """Series without points are deleted; a writer must not be about to use one."""
    add(session(0))
    process = writer(store_url, 1000, 30)
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()
    forgotten = 0
    while process.poll() is None:
        forgotten += prune(store, keep=0, really=True).sessions
    assert process.communicate()[1] == ""
    assert forgotten + counts(store)[0] == 31
    sessions, records, series, points = counts(store)
    assert (records, points) == (sessions * len(session(0)), 2 * sessions)
    assert series == 2 * bool(sessions)


# --- migrations


def test_the_migrations_make_the_tables_that_the_code_uses(store, add):
    add(session(1))
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert migrate.revision(connection) == migrate.HEAD
    assert ScriptDirectory(str(migrate.FOLDER)).get_heads() == [migrate.HEAD]


def test_a_store_of_a_later_version_is_left_alone(store, add):
    add(session(1))
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"later version .*schema 9999.*upgrade pytest"):
        add(session(2))
    with pytest.raises(StoreError, match="later version"):
        counts(store)


def test_a_migration_that_fails_leaves_no_half_of_it(store, monkeypatch):
    """DDL is part of the transaction on both databases."""
    with pytest.raises(ZeroDivisionError), store.writing():
        raise ZeroDivisionError
    if store.url.backend == "postgresql":
        with store._connection(writes=False) as connection:
            assert migrate.revision(connection) is None
    else:
        with contextlib.closing(sqlite3.connect(store.url.path)) as connection:
            assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []
    with store.writing() as connection:
        add_session(connection, session(1))
    assert counts(store)[0] == 1


# --- what cannot be opened


def test_a_file_that_is_no_database_is_said(tmp_path):
    path = tmp_path / "history.sqlite"
    path.write_text("hello " * 1000)
    store = Store(parse_store(f"sqlite:///{path}"), tmp_path)
    with pytest.raises(StoreError, match=r"cannot read the history sqlite:.*not a database"):
        counts(store)
    assert path.read_text().startswith("hello ")


def test_who_waits_for_another_writer_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("pytest_diffspeed.history.store.SILENT_S", 0.01)
    path = tmp_path / "h.sqlite"
    url, said = parse_store(f"sqlite:///{path}"), []
    store = Store(url, tmp_path, on_wait=said.append)
    with store.writing() as connection:
        add_session(connection, session(1))
    assert said == []
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def go_on(sentence):
            said.append(sentence)
            other.execute("ROLLBACK")

        store = Store(url, tmp_path, on_wait=go_on)
        with store.writing() as connection:
            add_session(connection, session(2))
    assert said == [
        f"another process writes to the history {url}; waiting for it, at most 60 s",
    ]
    assert counts(store)[0] == 2


def test_nothing_stored_yet_is_said_and_no_file_appears(tmp_path):
    store = Store(parse_store("sqlite:///.diffspeed/history.sqlite"), tmp_path)
    with pytest.raises(StoreError, match=r"there is no history in .* yet: a session of pytest"):
        counts(store)
    assert list(tmp_path.iterdir()) == []
    with store.writing() as connection:
        add_session(connection, session(1))
    assert (tmp_path / ".diffspeed" / ".gitignore").exists()


def test_pruning_keeps_the_newest(store, add):
    add(*(session(number) for number in (3, 1, 2, 4)))
    counted = prune(store, keep=3)
    assert (counted.sessions, counted.records, counted.kept) == (1, len(session(1)), 3)
    assert counts(store)[0] == 4
    assert prune(store, keep=3, really=True) == counted
    kept = {json.loads(line).get("session") for line in export_lines(store)} - {None}
    assert kept == {f"{number:032x}" for number in (2, 3, 4)}
    assert prune(store, keep_days=1e5, really=True).sessions == 0
    assert prune(store, keep_days=1, really=True).sessions == 3
    assert counts(store) == [0, 0, 0, 0]


def test_a_line_of_gigabytes_is_not_held(monkeypatch, tmp_path):
    """The limit is lowered: it is the same loop."""
    from pytest_diffspeed.records import lines

    monkeypatch.setattr(lines, "MOST_BYTES", 1000)
    path = tmp_path / "r.jsonl"
    short = '{"schema": "diffspeed/1", "kind": "new", "a": 1}\n'
    path.write_text(f'{short}{{"schema": "diffspeed/1", "a": "{"x" * 5000}"}}\n{short}')
    read = lines.read_lines(path)
    assert (len(read.records), read.left_out) == (2, 1)

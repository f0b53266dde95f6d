"""What a session of ``pytest --diffspeed`` leaves in its history; what it says when it cannot."""

import contextlib
import json
import shlex
import sqlite3
import subprocess
import sys
from urllib.parse import quote

import pytest
from servers import PASSWORD

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.history.series import series_of

ONE_TEST = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.max_slowdown(50)
    def test_it(optimized_pipeline): ...
"""
TEST = "test_mine.py::test_it[channels_last]"


@pytest.fixture
def one_test(pytester, constant_clock):
    return pytester.makepyfile(test_mine=ONE_TEST)


@pytest.fixture
def stored(pytester):
    """The series in a store; the session's default one, if none is named."""

    def stored(url="sqlite:///.diffspeed/history.sqlite"):
        return series_of(url, pytester.path)

    return stored


def no_store(pytester):
    return not (pytester.path / ".diffspeed" / "history.sqlite").exists()


def test_a_session_is_stored_by_default(pytester, run_diffspeed, one_test, stored, capsys):
    result = run_diffspeed("--diffspeed-json=r.jsonl")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["history: 1 figure in */.diffspeed/history.sqlite; see diffspeed history list"]
    )
    (series,) = stored()
    assert (series.test, series.stack, series.figure) == (TEST, "channels_last", "ratio")
    assert series.condition == "random:sdxl-tiny, 1 step"
    (point,) = series.points
    assert (point.value, point.verdict, point.commit) == (1.0, "PASS", None)
    assert main(["history", "export", "-", "--rootdir", str(pytester.path)]) == 0
    assert capsys.readouterr().out.endswith((pytester.path / "r.jsonl").read_text())

    run_diffspeed()
    assert len(stored()[0].points) == 2
    # The journal and the file of a session that was stored are that session.
    for path in [*(pytester.path / ".diffspeed" / "records").iterdir(), pytester.path / "r.jsonl"]:
        assert main(["history", "import", str(path), "--rootdir", str(pytester.path)]) == 0
    assert len(stored()[0].points) == 2


def test_points_carry_their_commit_and_whether_the_tree_was_dirty(
    pytester, run_diffspeed, one_test, stored
):
    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *who, *words], cwd=pytester.path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "-q")
    (pytester.path / ".gitignore").write_text("__pycache__\n")
    git("add", ".")
    git("commit", "-q", "-m", "First of all")
    run_diffspeed()
    one_test.write_text(one_test.read_text() + "# edited\n")
    run_diffspeed()
    (series,) = stored()
    assert [point.commit for point in series.points] == [git("rev-parse", "HEAD")] * 2
    assert [point.subject for point in series.points] == ["First of all"] * 2
    assert [point.dirty for point in series.points] == [False, True]


def test_the_cache_of_pytest_is_another_thing(pytester, run_diffspeed, one_test, stored):
    run_diffspeed()
    run_diffspeed("--cache-clear")
    assert len(stored()[0].points) == 2


@pytest.mark.parametrize("by_ini", [False, True])
def test_none_keeps_no_history(pytester, run_diffspeed, one_test, by_ini):
    if by_ini:
        pytester.makeini("[pytest]\ndiffspeed_store = none")
    result = run_diffspeed(*(() if by_ini else ["--diffspeed-store=none"]))
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*history:*")
    assert no_store(pytester)


def test_a_session_without_our_tests_leaves_nothing(pytester, run_diffspeed):
    pytester.makepyfile("def test_plain(): pass")
    run_diffspeed().assert_outcomes(passed=1)
    assert not (pytester.path / ".diffspeed").exists()


def test_a_file_is_named_from_the_rootdir(pytester, run_diffspeed, one_test, stored):
    pytester.makeini("[pytest]\ndiffspeed_store = sqlite:///mine.sqlite")
    result = run_diffspeed()
    result.stdout.fnmatch_lines(
        ["history: 1 figure in sqlite:///mine.sqlite; see diffspeed history list --store sqlite*"]
    )
    assert len(stored("sqlite:///mine.sqlite")) == 1
    assert no_store(pytester)


def test_a_history_that_another_process_holds_is_waited_for_aloud(
    pytester, run_diffspeed, one_test, monkeypatch
):
    pytester.makeini("[pytest]\ndiffspeed_store = sqlite:///mine.sqlite")
    monkeypatch.setattr("pytest_diffspeed.history.store.SILENT_S", 0.01)
    monkeypatch.setattr("pytest_diffspeed.history.store.WAIT_S", 0.1)
    with contextlib.closing(sqlite3.connect("mine.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=WAL")
        other.execute("BEGIN IMMEDIATE")
        result = run_diffspeed()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    waiting = "diffspeed: another process writes to the history sqlite:///mine.sqlite; waiting*"
    result.stdout.fnmatch_lines([waiting, "--diffspeed-store: cannot write to the history *"])


def test_what_was_found_before_a_stop_is_stored(pytester, private_temp, constant_clock, stored):
    stopped = "\n    def test_stop(baseline_pipeline): raise KeyboardInterrupt\n"
    pytester.makepyfile(test_mine=ONE_TEST + stopped)
    words = ["--diffspeed", "--diffspeed-device=cpu", "--diffspeed-pipeline=random:sdxl-tiny"]
    ended = pytester.inline_run(*words, "--diffspeed-steps=1", no_reraise_ctrlc=True)
    assert ended.ret == pytest.ExitCode.INTERRUPTED
    assert len(stored()) == 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:hunter2@h/db", "does not know 'mysql://***@h/db'"),
        ("sqlite:///nowhere/h.sqlite", "must be a file in a folder there is"),
        ("postgresql://u:hunter2@h", "must name one database"),
        ("postgresql://u:hunter2/@h/db", "cannot be read as a URL"),
    ],
)
@pytest.mark.parametrize("by_ini", [False, True])
def test_a_url_that_cannot_be_meant_is_a_usage_error(pytester, one_test, url, said, by_ini):
    if by_ini:
        pytester.makeini(f"[pytest]\ndiffspeed_store = {url}")
        result = pytester.runpytest_inprocess("--diffspeed")
    else:
        result = pytester.runpytest_inprocess("--diffspeed", f"--diffspeed-store={url}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.startswith("ERROR: ")]
    assert said in line
    assert ("diffspeed_store in" if by_ini else "--diffspeed-store:") in line
    assert "hunter2" not in result.stdout.str() + result.stderr.str()


def test_a_missing_psycopg_is_a_usage_error(pytester, one_test, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    result = pytester.runpytest_inprocess("--diffspeed", "--diffspeed-store=postgresql://h/d")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pip install 'pytest-diffspeed[[]postgresql[]]'*"])


def test_sessions_are_stored_on_a_server(
    pytester, run_diffspeed, one_test, stored, postgresql, database
):
    url = postgresql.url(database)
    result = run_diffspeed(f"--diffspeed-store={url}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["history: 1 figure in postgresql://diffspeed:[*][*][*]@127*"])
    assert len(stored(url)) == 1
    assert no_store(pytester)


@pytest.mark.parametrize("verbosity", [(), ("-vv", "--fulltrace", "--showlocals")])
def test_a_server_that_cannot_be_reached_fails_the_session_and_loses_nothing(
    pytester, run_diffspeed, one_test, stored, postgresql, database, verbosity, capsys, monkeypatch
):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    wrong = postgresql.url(database, password="hunter2/@")
    result = run_diffspeed(f"--diffspeed-store={wrong}", *verbosity)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    said = result.stdout.str() + result.stderr.str()
    assert "hunter2" not in said
    (line,) = [line for line in result.outlines if line.startswith("--diffspeed-store: ")]
    assert "cannot write to the history postgresql://diffspeed:***@127.0.0.1" in line
    assert "password authentication failed" in line
    assert "Nothing is lost; store it later with: diffspeed history import " in line

    # The very command, once the password is right.
    monkeypatch.setenv("DIFFSPEED_STORE_PASSWORD", PASSWORD)
    words = shlex.split(line.partition("later with: diffspeed ")[2])
    assert main(words) == 0
    assert len(stored(postgresql.url(database))) == 1
    for path in pytester.path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"hunter2" not in content, path


def test_a_broken_file_fails_the_session_and_loses_nothing(
    pytester, run_diffspeed, one_test, capsys
):
    (pytester.path / ".diffspeed").mkdir()
    store = pytester.path / ".diffspeed" / "history.sqlite"
    store.write_text("not a database " * 100)
    result = run_diffspeed()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["--diffspeed-store: cannot write*not a database. Nothing is lost*"]
    )
    (kept,) = (pytester.path / ".diffspeed" / "unstored").iterdir()
    store.unlink()
    assert main(["history", "import", str(kept), "--rootdir", str(pytester.path)]) == 0
    assert "1 sessions stored with 1 figures" in capsys.readouterr().out


def test_a_defect_shows_no_password(pytester, run_diffspeed, one_test, monkeypatch):
    """Whatever raises in a session that was given one, with every local variable printed."""

    def broken(asked, finished):
        raise ZeroDivisionError(f"{asked} {finished.rootdir}")

    monkeypatch.setattr("pytest_diffspeed.plugin.summary.write_outputs", broken)
    secret = quote("hunter2", safe="")
    result = run_diffspeed(
        f"--diffspeed-store=postgresql://u:{secret}@127.0.0.1:1/d", "--fulltrace", "--showlocals"
    )
    said = result.stdout.str() + result.stderr.str()
    assert "ZeroDivisionError" in said
    assert "postgresql://u:***@127.0.0.1:1/d" in said
    assert "hunter2" not in said


def test_without_the_option_no_database_library_is_imported(pytester):
    pytester.makepyfile(test_mine=ONE_TEST)
    pytester.makeini("[pytest]\ndiffspeed_store = sqlite:///mine.sqlite")
    code = (
        "import sys, json, pytest\n"
        "status = pytest.main(['-q', '-p', 'no:hypothesispytest'])\n"
        "names = ('sqlalchemy', 'alembic', 'psycopg', 'torch')\n"
        "print(json.dumps([int(status), *[name for name in names if name in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=pytester.path
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [0]

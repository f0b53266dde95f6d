"""``diffspeed history``, as a user calls it."""

import json
import shlex
import subprocess
import sys
from urllib.parse import quote

import pytest
from history_sessions import commit_name, gate_lines, session, session_line
from servers import PASSWORD

from pytest_diffspeed.records.journal import as_line, write_all

TEST = "test_sdxl.py::test_fast[compile]"


def jumping(count=40, at=25):
    return [session(n, ratio=1.8 if n < at else 1.5, breaks=0) for n in range(count)]


def test_list_names_every_figure_and_the_next_command(history, tmp_path):
    lines, err, status = history("list", sessions=jumping(3, at=2))
    assert (err, status) == ("", 0)
    assert lines == [
        f"history in {tmp_path}/.diffspeed/history.sqlite: 3 sessions",
        "AMD EPYC, 2 cores (environment ab12ab12), demo, 4 steps",
        f"  {TEST}",
        "    ratio of min_speedup over fp32 per call: 3 points, last 1.5 PASS (2026-01-01)",
        "    breaks of no_graph_breaks: 3 points, last 0 PASS (2026-01-01)",
        f"one test over its commits: diffspeed history show '{TEST}'",
    ]


def test_list_can_be_narrowed_down(history):
    other = [session_line(2), *gate_lines(test="test_other.py::test_slow", ratio=1.2)]
    lines, _, _ = history("list", "TEST_slow", sessions=[session(1), other])
    assert [line for line in lines if line.startswith("  test")] == [
        "  test_other.py::test_slow, stack compile"
    ]
    lines, _, status = history("list", "_%")
    assert lines[1:] == ["no test has that in its name", "all tests: diffspeed history list"]
    assert status == 0


def test_show_marks_jumps_with_their_commits_and_tells_drift(history):
    lines, err, status = history("show", "test_FAST", sessions=jumping())
    assert (err, status) == ("", 0)
    assert lines == [
        f"{TEST}, stack compile",
        "ratio of min_speedup over fp32 per call; higher is better",
        "on AMD EPYC, 2 cores (environment ab12ab12), demo, 4 steps: 40 points, 2026-01-01 to "
        "2026-01-02",
        f"    {'█' * 25}{'▁' * 15}  1.5 … 1.8, last 1.5 [1.455, 1.545] PASS",
        f"    {' ' * 25}^",
        f"    jump -16.7 % (worse): 1.8 → 1.5, after {commit_name(24)[:10]} by "
        f"{commit_name(25)[:10]} (Change 25)",
        "    no drift beyond the noise of 40 points since 2026-01-01 "
        f"({commit_name(0)[:10]}); anchor 1.8, now 1.5",
        "",
        f"{TEST}, stack compile",
        "breaks of no_graph_breaks; lower is better",
        "on AMD EPYC, 2 cores (environment ab12ab12), demo, 4 steps: 40 points, 2026-01-01 to "
        "2026-01-02",
        f"    {'▁' * 40}  0 … 0, last 0 PASS",
        "",
        f"what made it worse: git log --oneline {commit_name(24)[:10]}..{commit_name(25)[:10]}",
    ]


def test_show_points(history):
    sessions = [session(1, breaks=None), session(2, breaks=None, dirty=True)]
    lines, _, _ = history("show", TEST, "--points", sessions=sessions)
    assert (
        "    1 point of trees with uncommitted changes is shown, and nothing below rests on them"
        in lines
    )
    point = f"{commit_name(2)[:10]}*  1.5 [1.455, 1.545] PASS  Change 2"
    assert f"    2026-01-01T02:00:00+00:00  {point}" in lines
    assert lines[-1] == "all tests: diffspeed history list"


def test_show_against_an_anchor(history):
    lines, err, status = history("show", TEST, "--anchor", commit_name(30), sessions=jumping())
    assert status == 0
    assert any("anchor 1.5, now 1.5" in line for line in lines)
    _, err, status = history("show", TEST, "--anchor", "ffff")
    assert status == 2
    assert "has a point at commit 'ffff' from a clean tree" in err


def test_show_says_what_is_wrong(history):
    other = [session_line(2), *gate_lines(test="test_other.py::test_fast", ratio=1.2)]
    _, err, status = history("show", "nothing", sessions=[session(1), other])
    assert (status, err) == (
        2,
        "diffspeed: no test of this history is called 'nothing', nor holds that in its name; "
        "diffspeed history list names them\n",
    )
    _, err, status = history("show", TEST, "--stack", "bf16")
    assert "has no series of that stack and environment" in err
    _, err, status = history("show", "%")
    assert "no test of this history" in err


def test_show_takes_the_first_of_several_tests_and_names_the_others(history):
    other = [session_line(2), *gate_lines(test="test_other.py::test_fast", ratio=1.2)]
    lines, err, status = history("show", "test_fast", sessions=[session(1), other])
    assert (err, status) == ("", 0)
    assert lines[0] == "test_other.py::test_fast, stack compile"
    assert not any(line.startswith(TEST) for line in lines)
    assert f"1 other test with 'test_fast' in the name: {TEST}" in lines


def test_list_folds_what_is_neither_ratio_nor_count(history):
    who = {"test": TEST, "stack": "compile", "claim": "image_similarity", "reason": ""}
    rest = {"verdict": "PASS", "evidence": "measured", "blocking": False}
    names = ("psnr", "ssim", "ms_ssim", "mean_error", "other_image_ratio")
    figures = {"metrics": {name: [0.5, 0.4] for name in names}}
    images = {"kind": "gate", "gate": "image_similarity", **who, **rest, "figures": figures}
    lines, _, _ = history("list", sessions=[[*session(1), images]])
    own = [line for line in lines if line.startswith("    ")]
    assert len(own) == 3
    assert own[0].startswith("    ratio of min_speedup over fp32 per call: 1 point")
    assert own[1].startswith("    breaks of no_graph_breaks: 1 point")
    assert "other figures (" in own[2]
    assert own[2].endswith(", …); --all lists them")
    lines, _, _ = history("list", "--all")
    assert sum("of image_similarity: 1 point" in line for line in lines) >= 8


def test_export_and_import_round_trip(history, tmp_path):
    lines, _, _ = history("export", "out.jsonl", sessions=jumping(5))
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert written == "".join(as_line(record) for records in jumping(5) for record in records)
    many = len(written.splitlines())
    assert lines == [
        f"{many} records in out.jsonl",
        "into another store: diffspeed history import out.jsonl",
    ]
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    lines, _, _ = history("import", "out.jsonl", "out.jsonl", "--store", other)
    assert lines == [
        "out.jsonl: 5 sessions stored with 10 figures",
        "out.jsonl: 0 sessions stored with 0 figures, 5 there already",
        f"what there is now: diffspeed history list --store {other}",
    ]
    lines, _, _ = history("export", "-", "--store", other)
    assert [*lines, ""] == written.split("\n")


def test_import_counts_what_it_left_out(history, tmp_path):
    path = tmp_path / "torn.jsonl"
    stray = as_line(gate_lines(ratio=1.5)[0])
    path.write_text(stray + "".join(map(as_line, session(1))) + '{"schema": "diffs')
    lines, err, status = history("import", str(path))
    assert (err, status) == ("", 0)
    assert lines[1:3] == [
        f"{path}: 1 lines could not be read and count as not written",
        f"{path}: 1 records stand before any session and were left out",
    ]


def test_import_refuses_what_it_cannot_read(history, tmp_path):
    write_all(tmp_path / "r.jsonl", session(1))
    text = (tmp_path / "r.jsonl").read_text().replace("diffspeed/1", "diffspeed/7")
    (tmp_path / "r.jsonl").write_text(text)
    _, err, status = history("import", "r.jsonl")
    assert status == 2
    assert "r.jsonl holds records of schema diffspeed/7" in err
    write_all(tmp_path / "good.jsonl", session(2))
    lines, err, status = history("import", "r.jsonl", "good.jsonl")
    assert (status, lines) == (2, ["good.jsonl: 1 sessions stored with 2 figures"])
    assert err.endswith("diffspeed: 1 of 2 files were refused; the others are stored\n")
    _, err, status = history("import", "nowhere.jsonl")
    assert "cannot read the records in nowhere.jsonl: No such file" in err


def test_prune_says_what_it_would_do_and_does_it_when_told(history, tmp_path):
    records = 7 * len(session(0))
    lines, _, status = history("prune", "--keep", "3", sessions=jumping(10))
    assert lines == [
        f"would forget 7 sessions with {records} records and keep 3; nothing was changed",
        "a copy first: diffspeed history export history.jsonl",
        "do it: diffspeed history prune --keep 3 --yes",
    ]
    lines, _, status = history("prune", "--keep", "3", "--yes")
    assert lines == [
        f"forgot 7 sessions with {records} records; 3 are kept in "
        f"{tmp_path}/.diffspeed/history.sqlite",
        "what there is now: diffspeed history list",
    ]
    lines, _, _ = history("list")
    assert lines[0].endswith(": 3 sessions")
    _, err, status = history("prune", "--keep", "1", "--yes", "--store", "sqlite:///no.sqlite")
    assert (status, "there is no history in" in err) == (2, True)
    assert not (tmp_path / "no.sqlite").exists()
    _, err, status = history("prune")
    assert (status, "prune needs --keep N or --keep-days DAYS" in err) == (2, True)


def test_names_from_files_cannot_command_a_terminal(history):
    hostile = [session_line(1), *gate_lines(test="test_\x1b]0;x\x07\n", ratio=1.5)]
    lines, _, _ = history("list", sessions=[hostile])
    assert "  test_\\x1b]0;x\\x07\\n, stack compile" in lines
    lines, _, _ = history("show", "test_", "--points")
    assert not any(set(line) & {"\x1b", "\x07"} for line in lines)


def test_the_store_is_found_from_a_folder_below(history, tmp_path, monkeypatch):
    history("list", sessions=[session(1)])
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    lines, _, status = history("list")
    assert (status, lines[0].endswith("1 session")) == (0, True)
    lines, _, status = history("list", "--rootdir", str(tmp_path))
    assert (status, lines[-1].endswith(f"--rootdir {tmp_path}")) == (0, True)
    _, err, status = history("list", "--rootdir", ".")
    assert (status, "there is no history in .diffspeed/history.sqlite yet" in err) == (2, True)


@pytest.mark.parametrize("url", ["none", "mysql://h/d", "sqlite:///nowhere/h.sqlite"])
def test_a_store_that_cannot_be_meant_is_said(history, url):
    _, err, status = history("list", "--store", url)
    assert status == 2
    assert err.startswith("diffspeed: --store: ")


def test_a_pipe_that_closes_early_ends_it_quietly(history, tmp_path):
    history("list", sessions=jumping(60))
    code = "import sys; from pytest_diffspeed.commands.cli import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "history", "export", "-"]
    with subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["kind"] == "session"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


# --- PostgreSQL


@pytest.mark.parametrize("name", ["DIFFSPEED_STORE_PASSWORD", "PGPASSWORD"])
@pytest.mark.parametrize("by_socket", [False, True])
def test_a_password_comes_from_the_environment(
    history, postgresql, database, monkeypatch, tmp_path, name, by_socket
):
    write_all(tmp_path / "r.jsonl", session(1))
    plain = postgresql.url(database, password=None)
    url = postgresql.socket_url(database) if by_socket else plain
    monkeypatch.setenv(name, PASSWORD)
    lines, err, status = history("import", "r.jsonl", "--store", url)
    assert (err, status) == ("", 0)
    # What is printed can be pasted.
    words = shlex.split(lines[-1].partition(": ")[2])
    lines, err, status = history(*words[2:])
    assert (err, status) == ("", 0)
    assert lines[0].endswith(": 1 session")


def test_no_output_holds_a_password(history, postgresql, database, tmp_path, monkeypatch):
    write_all(tmp_path / "r.jsonl", session(1))
    said = []
    secrets = ("hunter2/@", "hunter2%2F%40")
    wrong = postgresql.url(database).replace(quote(PASSWORD, safe=""), secrets[1])
    elsewhere = wrong.replace(f":{postgresql.port}/", ":1/")
    for url in (wrong, elsewhere, wrong.replace(database, "nowhere")):
        lines, err, status = history("import", "r.jsonl", "--store", url)
        assert status == 2
        assert err.startswith("diffspeed: cannot write to the history postgresql://diffspeed:***@")
        said += [*lines, err]
    monkeypatch.setenv("DIFFSPEED_STORE_PASSWORD", secrets[0])
    _, err, status = history("list", "--store", postgresql.url(database, password=None))
    assert "password authentication failed" in err
    assert not [line for line in [*said, err] if any(secret in line for secret in secrets)]
    url = postgresql.url(database)
    lines, _, _ = history("import", "r.jsonl", "--store", url)
    assert "diffspeed:***@127.0.0.1" in lines[-1]


def test_a_traceback_holds_no_password(postgresql, database, tmp_path):
    """Where the server refuses a statement, and where a defect of ours raises."""
    code = (
        "import sys; from pathlib import Path; from sqlalchemy import text\n"
        "from pytest_diffspeed.history.store import Store\n"
        "from pytest_diffspeed.history.url import parse_store\n"
        "store = Store(parse_store(sys.argv[1]), Path())\n"
        "with store.writing() as connection: {}"
    )
    for body, said in (
        ("connection.execute(text('SELECT nothing'))", 'column "nothing" does not exist'),
        ("connection.execute(text('SELECT :a'), {'a': store})", "ProgrammingError"),
        ("print(store.url, connection.engine, vars(store)); 1 / 0", "ZeroDivisionError"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(body), postgresql.url(database)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr or "StoreError" in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        assert quote(PASSWORD, safe="") not in done.stdout + done.stderr


def test_the_commands_say_the_same_on_postgresql(history, postgresql, database, tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(as_line(r) for records in jumping() for r in records))
    url = postgresql.url(database)
    history("import", "r.jsonl")
    history("import", "r.jsonl", "--store", url)
    for words in (("show", TEST, "--points"), ("show", TEST, "--anchor", commit_name(30))):
        assert history(*words, "--store", url) == history(*words)
    assert history("export", "-", "--store", url) == history("export", "-")
    ours, theirs = history("list")[0], history("list", "--store", url)[0]
    assert theirs[1:-1] == ours[1:-1]
    prune = ("prune", "--keep", "4", "--yes")
    assert (
        history(*prune, "--store", url)[0][0].split(";")[0] == history(*prune)[0][0].split(";")[0]
    )
    assert history("export", "-", "--store", url) == history("export", "-")

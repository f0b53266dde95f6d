"""Files that nobody's session wrote: a sentence or a counted line, never a crash, nor a wait."""

import json
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from record_examples import EXAMPLES, damaged

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.common.errors import RecordError
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.journal import Journal, as_line
from pytest_diffspeed.records.lines import MOST_BYTES, read_lines
from pytest_diffspeed.records.reader import read_journal, recorded_session
from pytest_diffspeed.records.schema import fits
from pytest_diffspeed.reports.exports import formats
from pytest_diffspeed.reports.exports.export_format import Exported
from pytest_diffspeed.reports.exports.figures import figures_of
from pytest_diffspeed.reports.github import annotation_lines
from pytest_diffspeed.reports.ladder import ladder_rows
from pytest_diffspeed.reports.markdown import markdown
from pytest_diffspeed.reports.terminal import gate_lines, ladder_table

JSON = {"bencher", "github-action-benchmark", "jsonlines", "pytest-benchmark"}
"""Formats whose text is JSON; another export may write what it likes."""

GOOD = as_line({"kind": "gate-error", **EXAMPLES["gate-error"]}).encode()


def shown(session):
    """All that is made of a session; none of it may raise."""
    results = [gate.result for gate in session.gates]
    texts = [markdown(session), *annotation_lines(session), *ladder_rows(session.ladder)]
    texts += [line for _, line in gate_lines(results, verbose=True)] + ladder_table(results)
    return "\n".join(texts)


@pytest.mark.parametrize(
    "digits", ["9" * 301, "-" + "9" * 5000, "1e309", "-1e999", "1" * 400 + ".5"]
)
def test_a_number_that_no_double_holds_is_no_record(tmp_path, digits):
    path = tmp_path / "r.jsonl"
    line = as_line({"kind": "gate", **EXAMPLES["gate"]}).replace("1.5", digits)
    path.write_bytes(line.encode() + GOOD)
    assert (len(read_lines(path).records), read_lines(path).left_out) == (1, 1)


def test_a_line_of_70_mb_is_left_out_and_its_neighbours_read(tmp_path):
    path = tmp_path / "r.jsonl"
    with path.open("wb") as file:
        file.write(GOOD)
        file.write(b'{"schema": "diffspeed/1", "kind": "x", "a": "')
        for _ in range(70):
            file.write(b"a" * 1024 * 1024)
        file.write(b'"}\n' + GOOD)
    read = read_lines(path)
    assert (len(read.records), read.left_out) == (2, 1)


@pytest.mark.parametrize("extra", [0, 1, MOST_BYTES])
def test_a_last_line_that_is_too_long_ends_the_file(tmp_path, monkeypatch, extra):
    monkeypatch.setattr("pytest_diffspeed.records.lines.MOST_BYTES", 100 + len(GOOD))
    path = tmp_path / "r.jsonl"
    path.write_bytes(GOOD + b"x" * (101 + len(GOOD) + min(extra, 1000)))
    assert (len(read_lines(path).records), read_lines(path).left_out) == (1, 1)


@pytest.mark.parametrize("deep", ["[" * 200_000, '{"a":' * 200_000])
def test_deep_nesting_costs_a_line(tmp_path, deep):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"schema": "diffspeed/1", "kind": "x", "a": ' + deep.encode() + b"\n" + GOOD)
    assert (len(read_lines(path).records), read_lines(path).left_out) == (1, 1)


def test_nesting_that_json_reads_is_no_trouble_later(tmp_path):
    path = tmp_path / "r.jsonl"
    depth = sys.getrecursionlimit() // 3
    deep = "[" * depth + "]" * depth
    line = as_line({"kind": "gate", **EXAMPLES["gate"]})
    line = line.replace('"figures": {', f'"figures": {{"of a later version": {deep}, ', 1)
    path.write_text(line, encoding="utf-8")
    session = read_journal(path)
    shown(session)
    assert [gate.result.claim for gate in session.gates] == [EXAMPLES["gate"]["claim"]]


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="is no regular file"):
        read_journal(tmp_path / "pipe")


@pytest.mark.parametrize(
    "name", ["folder", "absent", "loop", "dangling", "a\0b", "x" * 5000, "\udc80"]
)
def test_what_is_no_file_gets_a_sentence(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(RecordError, match="cannot read the records"):
        read_journal(tmp_path / name)


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "r.jsonl").write_bytes(GOOD)
    (tmp_path / "link").symlink_to("r.jsonl")
    assert len(read_lines(tmp_path / "link").records) == 1


def test_half_a_character_is_written_and_read(tmp_path):
    """As in a file name that is no UTF-8, which an error message may hold."""
    journal = Journal(tmp_path / "r.jsonl")
    journal.write("gate-error", **{**EXAMPLES["gate-error"], "error": "no file a\udc80b"})
    (gate,) = read_journal(journal.path).gates
    assert gate.result.reason.endswith("no file a\udc80b")
    session = read_journal(journal.path)
    "\n".join([markdown(session), *annotation_lines(session)]).encode("utf-8")


@given(st.lists(damaged(), max_size=6))
@example([("ladder", {**EXAMPLES["ladder"], "composed": {"step": None}})])
@settings(max_examples=150)
def test_any_records_that_fit_can_be_shown_and_exported(records):
    fitting = [{"kind": kind, **record} for kind, record in records if fits(kind, record)]
    session = recorded_session(fitting, path=Path())
    shown(session)
    # All that fits is read: what two records say of one gate is one gate.
    named = {(r["test"], r["claim"], r["stack"]) for r in fitting if r["kind"] == "gate"}
    assert {(g.result.test, g.result.claim, g.result.stack) for g in session.gates} >= named
    for one in formats().values():
        exported = Exported(session, figures_of(session, milliseconds=True), True)
        for text in one.render(exported).values():
            if one.name not in JSON:
                continue
            for line in text.splitlines() if one.name == "jsonlines" else [text]:
                json.loads(line, parse_constant=pytest.fail)


@given(content=st.binary(max_size=300))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_any_bytes_are_read(tmp_path, content):
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    try:
        shown(read_journal(path))
    except RecordError as error:
        assert "reads diffspeed/1 only" in str(error)


def test_the_command_says_it_in_a_sentence(tmp_path, capsys):
    (tmp_path / "r.jsonl").write_bytes(b"\0" * 100)
    assert main(["export", str(tmp_path / "r.jsonl"), "--format", "bencher"]) == 2
    assert "holds no records" in capsys.readouterr().err
    assert main(["export", str(tmp_path), "--format", "bencher"]) == 2
    assert "no regular file" in capsys.readouterr().err


def test_a_finished_session_of_nothing_is_shown(tmp_path):
    assert "no gate ran" in markdown(FinishedSession([], tmp_path).session)

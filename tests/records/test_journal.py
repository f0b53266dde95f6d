"""The journal: nothing measured is lost, and every line is strict JSON."""

import json
import math
import signal
import subprocess
import sys

from pytest_diffspeed.common.workdir import safe_name, workdir
from pytest_diffspeed.records.journal import Journal, write_all

WRITE_FOR_EVER = """
import itertools, sys
from pathlib import Path
from pytest_diffspeed.records.journal import Journal
journal = Journal(Path(sys.argv[1]))
for index in itertools.count():
    journal.write("pair", index=index)
    if index == 50:
        print("many", flush=True)
"""


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_records_carry_their_schema_and_kind(tmp_path):
    journal = Journal.in_folder(tmp_path / "records")
    assert not journal.path.exists()
    journal.write("pair", index=0, baseline_s=1.5)
    journal.write("gate", verdict="PASS")
    first, second = lines(journal.path)
    assert first == {"schema": "diffspeed/1", "kind": "pair", "index": 0, "baseline_s": 1.5}
    assert second["kind"] == "gate"


def test_numbers_that_are_not_finite_become_null(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.write("gate", high=math.inf, figures={"noise": math.nan, "all": [math.inf, 1.0]})
    (record,) = lines(journal.path)
    assert record["high"] is None
    assert record["figures"] == {"noise": None, "all": [None, 1.0]}


def test_a_killed_writer_leaves_every_finished_record_readable(tmp_path):
    path = tmp_path / "j.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout.readline() == "many\n"
        writer.send_signal(signal.SIGKILL)
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert [json.loads(line)["index"] for line in whole] == list(range(len(whole)))
    assert len(whole) > 50


def test_a_set_of_records_replaces_the_file_as_a_whole(tmp_path):
    path = tmp_path / "records.jsonl"
    path.write_text("old\n")
    write_all(path, [{"kind": "gate", "test": "tests/ünï.py::t[a+b]"}])
    assert [record["test"] for record in lines(path)] == ["tests/ünï.py::t[a+b]"]
    assert list(tmp_path.iterdir()) == [path]


def test_the_work_folder_is_ignored_by_git(tmp_path):
    folder = workdir(tmp_path)
    assert folder == tmp_path / ".diffspeed"
    assert (folder / ".gitignore").read_text().splitlines()[-1] == "*"
    assert workdir(tmp_path) == folder


def test_file_names_are_safe_and_differ_for_any_test_id():
    hostile = ["../../etc/passwd", "a/b.py::t[x y]", "a/b.py::t[x_y]", "é" * 500, "con\0<>|?*", ""]
    names = [safe_name(text) for text in hostile]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(name) < 100
        assert all(letter.isascii() and (letter.isalnum() or letter in "._+-") for letter in name)
        assert not name.startswith(".")

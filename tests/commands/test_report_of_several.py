"""``diffspeed report``, ``export`` and ``verify`` of several files: one document, one answer."""

import json

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.journal import write_all
from pytest_diffspeed.records.reader import read_journal

CPU = {"kind": "cpu", "name": "AMD EPYC, 2 cores"}
L4 = {"kind": "cuda", "name": "NVIDIA <L4>"}
TEST = "t.py::test_a[bf16]"


def session(name, device, *gates, number=None, **end):
    told = {} if number is None else {"shard": {"number": number, "of": 2, "plan": None}}
    about = {
        "kind": "session",
        "session": name,
        "at": "2026-11-25T10:00:00+00:00",
        "environment": {"device": device["name"]},
        "device": device,
        "machine": name,
        "commit": "0123abc",
        "dirty": False,
        **told,
    }
    tests = [
        {
            "kind": "test",
            "test": gate["test"],
            "outcome": "failed" if gate["blocking"] else "passed",
        }
        for gate in gates
    ]
    return [about, *gates, *tests, {"kind": "end", "exit_status": 0, **end}]


def breaks(many, verdict="PASS", test=TEST):
    return {
        "kind": "gate",
        "test": test,
        "stack": "bf16",
        "claim": "no_graph_breaks",
        "gate": "no_graph_breaks",
        "verdict": verdict,
        "reason": f"{many} graph breaks, allowed: 0",
        "evidence": "counted",
        "blocking": verdict == "FAIL",
        "figures": {"breaks": many, "allowed": 0},
    }


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def files_(**sessions):
        for name, records in sessions.items():
            write_all(tmp_path / f"{name}.jsonl", records)
        return [f"{name}.jsonl" for name in sessions]

    return files_


def test_all_reports_say_the_same_of_two_devices(files, tmp_path, capsys):
    paths = files(
        a=session("a", CPU, breaks(0)),
        b=session("b", L4, breaks(2, "FAIL"), exit_status=1),
    )
    words = ["--html", "r.html", "--markdown", "r.md", "--json", "all.jsonl"]
    assert main(["report", *paths, *words]) == 1
    assert "red: 1 gate FAIL" in capsys.readouterr().out.splitlines()
    markdown = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert markdown.startswith("## diffspeed: 1 FAIL, 1 PASS\n")
    (row,) = (line for line in markdown.splitlines() if "✅" in line and "❌" in line)
    assert "0 breaks" in row and "2 breaks" in row
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("NVIDIA &lt;L4&gt;") > 1 and "<L4>" not in html
    assert '<table class="devices">' in html
    assert [len(part.gates) for part in read_journal(tmp_path / "all.jsonl").parts] == [1, 1]
    # What was merged is a file like any other.
    assert main(["report", "all.jsonl", "--markdown", "again.md"]) == 1
    again = (tmp_path / "again.md").read_text(encoding="utf-8").replace("all.jsonl", "a.jsonl", 1)
    assert again.replace("all.jsonl", "b.jsonl") == markdown


def test_a_missing_shard_stands_in_every_report(files, tmp_path, capsys):
    (path,) = files(a=session("a", CPU, breaks(0), number=1))
    assert main(["report", path, "--html", "r.html", "--markdown", "r.md"]) == 1
    assert "red: shard 2/2 is not here" in capsys.readouterr().out
    assert "shard 2/2 is not here" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "missing: <code>shard 2/2 is not here" in (tmp_path / "r.md").read_text("utf-8")
    assert main(["export", path, "--format=jsonlines"]) == 1
    assert "shard 2/2 is not here" in capsys.readouterr().err
    assert main(["verify", path, "--save", "gates.txt"]) == 0
    assert main(["verify", path, "--expect", "gates.txt"]) == 1
    assert "missing: shard 2/2 is not here" in capsys.readouterr().out


def test_green_is_said_of_the_whole(files, capsys):
    other = breaks(0, test="t.py::test_b[bf16]")
    paths = files(a=session("a", CPU, breaks(0), number=1), b=session("b", CPU, other, number=2))
    assert main(["report", *paths, "--markdown", "r.md"]) == 0
    assert "green: 2 gates PASS in 2 sessions" in capsys.readouterr().out


def test_names_in_an_export_tell_devices_and_runs_apart(files, capsys):
    paths = files(
        a=session("a", CPU, breaks(0), number=1),
        b=session("b", L4, breaks(1)),
        c=session("c", L4, breaks(3)),
    )
    assert main(["export", *paths, "--format=bencher"]) == 1  # shard 2 of 2 is not there
    found = json.loads(capsys.readouterr().out)
    names = {name: of_it["diffspeed-breaks"]["value"] for name, of_it in found.items()}
    assert sorted(names.values()) == [0, 1, 3] and len(names) == 3
    assert main(["export", *paths, "--format=jsonlines"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["device"] for line in lines] == [CPU["name"], L4["name"], L4["name"]]
    assert [line["machine"] for line in lines] == ["a", "b", "c"]


def test_a_gate_is_verified_where_a_device_could_be_asked(files, capsys):
    on_cpu = {**breaks(0, "NOT_APPLICABLE"), "evidence": None}
    paths = files(a=session("a", CPU, on_cpu), b=session("b", L4, breaks(0)))
    assert main(["verify", *paths, "--save", "gates.txt"]) == 0
    assert main(["verify", *paths, "--expect", "gates.txt"]) == 0
    assert main(["verify", paths[0], "--expect", "gates.txt"]) == 1
    failing = files(c=session("c", L4, breaks(2, "FAIL")))
    assert main(["verify", *paths, *failing, "--expect", "gates.txt"]) == 1
    assert "FAIL: 2 graph breaks" in capsys.readouterr().out

"""What a CI job hands on: the text of a pull request's comment, and its outputs."""

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.journal import write_all
from pytest_diffspeed.reports.formats import comment, outputs


def gate(verdict="PASS", *, test="t.py::t[bf16]", **more):
    return {
        "kind": "gate",
        "gate": "no_graph_breaks",
        "claim": "no_graph_breaks",
        "test": test,
        "stack": "bf16",
        "verdict": verdict,
        "reason": "why",
        "evidence": "counted",
        "blocking": verdict == "FAIL",
        "figures": {},
        **more,
    }


def ended(outcome, test="t.py::t[bf16]", **more):
    return {"kind": "test", "test": test, "outcome": outcome, "stack": "bf16", **more}


@pytest.fixture
def values(tmp_path):
    """The outputs of a session."""

    def values_(*records):
        target = tmp_path / "outputs.txt"
        said = outputs.write(str(target), FinishedSession(records, tmp_path))
        assert said == f"outputs: {target}"
        lines = target.read_text("utf-8").splitlines()
        assert lines[0].startswith(outputs.MARK)
        return dict(line.split("=") for line in lines)

    return values_


def test_outputs_count_each_gate_once(values):
    found = values(
        gate("FAIL"),
        gate("INCONCLUSIVE", test="a\nverdict=PASS"),
        gate("NOT_APPLICABLE", test="b"),
        gate(test="c"),
        gate(test="c"),
        {"kind": "not-run", "test": "d", "claim": "max_memory", "reason": "r"},
    )
    assert found == {
        "verdict": "FAIL",
        "fail": "1",
        "inconclusive": "1",
        "not_applicable": "1",
        "pass": "1",
        "xfailed": "0",
        "not_checked": "0",
        "not_run": "1",
        "failed_otherwise": "0",
    }


@pytest.mark.parametrize(
    ("records", "verdict"),
    [
        ([], "NONE"),
        ([gate("NOT_APPLICABLE")], "NONE"),
        ([gate()], "PASS"),
        ([gate(), gate("INCONCLUSIVE", test="b")], "INCONCLUSIVE"),
        ([gate(), gate("INCONCLUSIVE", test="b", blocking=True)], "FAIL"),
        ([gate("FAIL"), ended("skipped", xfail=True)], "NONE"),
        ([gate(), ended("failed", "u.py::t", error="no such file")], "FAIL"),
    ],
)
def test_the_verdict_of_a_session(values, records, verdict):
    assert values(*records)["verdict"] == verdict


def test_a_comment_begins_with_a_hidden_mark_and_fits(tmp_path):
    target = tmp_path / "comment.md"
    many = [gate("FAIL", test=f"t.py::t{n}", reason="é" * 3000) for n in range(300)]
    comment.write(str(target), FinishedSession(many, tmp_path))
    text = target.read_text("utf-8")
    assert text.startswith("<!-- diffspeed -->\n## diffspeed: 300 FAIL\n")
    assert 50_000 < len(text.encode()) <= 65536 - 2000
    assert "Cut, since GitHub shows at most 64 KiB: " in text


def test_both_are_made_from_records_too(tmp_path, capsys):
    write_all(tmp_path / "r.jsonl", [gate(), {"kind": "end", "exit_status": 0}])
    words = ("--comment", "c.md", "--outputs", "o.txt")
    paths = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    assert main(["report", str(tmp_path / "r.jsonl"), *paths]) == 0
    assert "comment: " in capsys.readouterr().out
    assert (tmp_path / "o.txt").read_text("utf-8").startswith("verdict=PASS\n")
    assert "## diffspeed: 1 PASS" in (tmp_path / "c.md").read_text("utf-8")

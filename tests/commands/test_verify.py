"""``diffspeed verify``: no expected gate is missing from what a session recorded."""

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.journal import write_all

RECORDS = "r.jsonl"
LIST = "gates.txt"


def gate(test, claim, verdict="PASS", reason="shown"):
    return {
        "kind": "gate",
        "test": test,
        "stack": "bf16",
        "claim": claim,
        "gate": claim.split(" ")[0],
        "verdict": verdict,
        "reason": reason,
        "evidence": "counted",
        "blocking": verdict == "FAIL",
        "figures": {},
    }


def ended(test, outcome="passed"):
    return {
        "kind": "test",
        "test": test,
        "outcome": outcome,
        "stack": "bf16",
        "file": "t.py",
        "line": 1,
        "duration_s": 1.0,
        "images": [],
    }


SYNCS = gate("t.py::test_a[bf16]", "no_gpu_syncs in scheduler.step")
BREAKS = gate("t.py::test_b[bf16 | x]", "no_graph_breaks")
WHOLE = [SYNCS, ended(SYNCS["test"]), BREAKS, ended(BREAKS["test"])]


@pytest.fixture
def verify(tmp_path, monkeypatch, capsys):
    """Hold records against the list of a whole session; the exit status and what was printed."""
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path / RECORDS, WHOLE)
    assert main(["verify", RECORDS, "--save", LIST]) == 0
    capsys.readouterr()

    def run(records, *words):
        if records is None:
            (tmp_path / RECORDS).unlink()
        else:
            write_all(tmp_path / RECORDS, records)
        code = main(["verify", RECORDS, "--expect", LIST, *words])
        return code, "".join(capsys.readouterr())

    return run


def test_a_session_that_checked_everything_is_verified(verify):
    assert verify(WHOLE) == (0, "2 of 2 gates verified\n")


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (WHOLE[:2], "its test is not in the records: it was not collected, or left out"),
        ([*WHOLE[:2], ended(BREAKS["test"])], "its test passed, and this gate is not in"),
        (
            [*WHOLE[:2], gate(BREAKS["test"], "no_graph_breaks", "FAIL", "1 break\nx")],
            "FAIL: 1 break",
        ),
        (
            [*WHOLE[:2], gate(BREAKS["test"], "no_graph_breaks", "NOT_APPLICABLE", "no GPU")],
            "NOT_APPLICABLE: no GPU",
        ),
        (
            [*WHOLE[:2], {"kind": "not-run", "test": BREAKS["test"], "claim": "no_graph_breaks"}],
            "not run: the body of the test did not end",
        ),
        ([*WHOLE[:3], ended(BREAKS["test"], "failed")], "PASS, and its test failed all the same"),
    ],
)
def test_a_gate_that_did_not_pass_is_named_with_the_reason(verify, records, why):
    code, text = verify(records)
    assert code == 1
    assert f"not verified: t.py::test_b[bf16 | x] | no_graph_breaks: {why}" in text
    assert text.endswith("1 of 2 gates verified\n")


def test_a_session_that_left_no_records_is_an_error(verify):
    """As after ``os._exit(0)``, or without the plug-in."""
    code, text = verify(None)
    assert code == 2
    assert "there is no r.jsonl: the session did not end, or did not run with --diffspeed" in text


def test_records_of_another_commit_are_an_error(verify):
    code, text = verify(WHOLE, "--commit=abc123")
    assert code == 2
    assert "r.jsonl is of commit (none), not of abc123" in text


def test_gates_beside_the_list_are_told(verify):
    more = gate("t.py::test_c[bf16]", "max_memory over fp32")
    assert verify([*WHOLE, more]) == (
        0,
        "2 of 2 gates verified; 1 more in the records are not in the list\n",
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# nothing\n", "gates.txt names no gate"),
        ("t.py::test_a[bf16]\n", "gates.txt:1: 't.py::test_a[bf16]' is not `test | claim`"),
        (None, "cannot read gates.txt"),
    ],
)
def test_a_list_of_nothing_verifies_nothing(verify, tmp_path, text, sentence):
    if text is None:
        (tmp_path / LIST).unlink()
    else:
        (tmp_path / LIST).write_text(text)
    code, said = verify(WHOLE)
    assert code == 2
    assert sentence in said


@pytest.mark.parametrize(
    ("records", "code", "said"),
    [
        (WHOLE, 0, "2 gates reached a verdict"),
        ([gate("t.py::t", "no_graph_breaks", "NOT_APPLICABLE")], 1, "nothing was checked"),
        ([{**SYNCS, "figures": {"pairs": 0}}], 1, "nothing was checked"),
        ([ended("t.py::t")], 1, "nothing was checked"),
    ],
)
def test_without_a_list_any_verdict_will_do(tmp_path, capsys, records, code, said):
    write_all(tmp_path / RECORDS, records)
    assert main(["verify", str(tmp_path / RECORDS)]) == code
    assert said in capsys.readouterr().out

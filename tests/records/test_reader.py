"""Reading journals back: whole ones, torn and corrupt ones, and those of killed runs."""

import json
import math
import os
import random
import signal
import subprocess
import sys

import pytest

from pytest_diffspeed.common.errors import RecordError
from pytest_diffspeed.records.journal import Journal, as_line
from pytest_diffspeed.records.lines import read_lines
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.records.verdict import EvidenceKind, GateResult, VerdictKind
from pytest_diffspeed.reports.terminal import gate_lines, ladder_table

IDENTITY = {"test": "t.py::t[bf16]", "stack": "bf16", "claim": "min_speedup over fp32 per call"}
START = {
    **IDENTITY,
    "seed": 7,
    "over": "fp32",
    "need": 1.8,
    "baseline_first_call_s": 2.5,
    "candidate_first_call_s": 1.5,
}
RESULT = GateResult(
    gate="min_speedup",
    verdict=VerdictKind.PASS,
    reason="shown to be at least 1.80x: 6 of 6 pairs above",
    evidence=EvidenceKind.MEASURED,
    blocking=False,
    figures={"ratio": 2.0, "pairs": 6},
    **IDENTITY,
)


def pair(index, **changes):
    seconds = {"index": index, "baseline_s": 2.0, "candidate_s": 1.0}
    return {**IDENTITY, **seconds, "candidate_first": False, "dropped": None, **changes}


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "j.jsonl")


def append(journal, text):
    with journal.path.open("ab") as file:
        file.write(text if isinstance(text, bytes) else text.encode())


def test_a_finished_gate_is_what_its_line_says(journal):
    journal.write("gate-start", **START)
    for index in range(6):
        journal.write("pair", **pair(index))
    journal.write("gate", **RESULT.as_dict())
    session = read_journal(journal.path)
    (gate,) = session.gates
    assert gate.finished
    assert gate.result == RESULT
    assert [p.index for p in gate.pairs] == list(range(6))
    assert gate.start["seed"] == 7
    assert (session.left_out, session.note) == (0, None)


def test_an_unfinished_gate_is_inconclusive_with_its_pairs(journal):
    journal.write("gate-start", **START)
    for index in range(7):
        journal.write("pair", **pair(index, baseline_s=1.0 + index))
    (gate,) = read_journal(journal.path).gates
    assert not gate.finished
    assert gate.result.verdict is VerdictKind.INCONCLUSIVE
    assert gate.result.blocking
    assert gate.result.gate == "min_speedup"
    assert gate.result.reason == "the run ended after 7 pairs, before this gate reached a verdict"
    assert gate.result.figures["ratio"] == 4.0
    assert (gate.result.figures["pairs"], gate.result.figures["need"]) == (7, 1.8)


def test_pairs_that_do_not_count_are_kept_apart(journal):
    journal.write("gate-start", **START)
    journal.write("pair", **pair(0))
    journal.write("pair", **pair(1, baseline_s=99.0, dropped="another process is busy"))
    (gate,) = read_journal(journal.path).gates
    assert [p.dropped for p in gate.pairs] == [None, "another process is busy"]
    assert (gate.result.figures["pairs"], gate.result.figures["ratio"]) == (1, 2.0)


def test_a_report_can_show_an_unfinished_gate(journal):
    for index in range(2):
        journal.write("pair", **pair(index))  # its gate-start was lost, too
    journal.write("gate-start", **{**START, "claim": "min_speedup over bf16 per call"})
    results = [gate.result for gate in read_journal(journal.path).gates]
    assert [line.strip() for _, line in gate_lines(results)][-1] == (
        "the run ended after 0 pairs, before this gate reached a verdict"
    )
    assert len(ladder_table(results)) == 2


def test_a_gate_that_could_not_be_checked_says_why(journal):
    journal.write("gate-start", **START)
    journal.write("pair", **pair(0))
    journal.write("gate-error", **IDENTITY, error="arm 'bf16' raised in its call number 7")
    (gate,) = read_journal(journal.path).gates
    assert not gate.finished
    assert gate.result.reason == (
        "it could not be checked after 1 pair: arm 'bf16' raised in its call number 7"
    )


def test_a_gate_that_ran_twice_is_two_gates(journal):
    for baseline_s in (1.0, 3.0):
        journal.write("gate-start", **START)
        journal.write("pair", **pair(0, baseline_s=baseline_s))
        journal.write("gate", **RESULT.as_dict())
    journal.write("gate-start", **START)
    first, second, third = read_journal(journal.path).gates
    assert [gate.pairs[0].baseline_s for gate in (first, second)] == [1.0, 3.0]
    assert (third.finished, third.pairs) == (False, ())


def test_a_gate_that_began_again_before_it_ended_is_two_gates(journal):
    for _ in range(2):
        journal.write("gate-start", **START)
        journal.write("pair", **pair(0))
    assert [len(gate.pairs) for gate in read_journal(journal.path).gates] == [1, 1]


def test_a_pair_whose_start_was_lost_is_not_added_to_the_gate_before(journal):
    journal.write("gate-start", **START)
    journal.write("gate", **RESULT.as_dict())
    journal.write("pair", **pair(0))
    first, second = read_journal(journal.path).gates
    assert (first.result, first.pairs) == (RESULT, ())
    assert (second.finished, len(second.pairs)) == (False, 1)


def test_gates_that_overlap_keep_their_own_pairs(journal):
    other = {"claim": "max_slowdown over fp32 per call"}
    journal.write("gate-start", **START)
    journal.write("gate-start", **{**START, **other})
    for index in range(4):
        journal.write("pair", **pair(index, **(other if index % 2 else {})))
    first, second = read_journal(journal.path).gates
    assert [[p.index for p in gate.pairs] for gate in (first, second)] == [[0, 2], [1, 3]]


def test_a_gate_without_pairs_needs_no_start(journal):
    journal.write("gate", **{**RESULT.as_dict(), "evidence": None, "verdict": "NOT_APPLICABLE"})
    (gate,) = read_journal(journal.path).gates
    assert gate.finished
    assert gate.result.evidence is None


def test_fields_and_kinds_of_a_later_minor_version_are_no_error(journal):
    newer = as_line({"kind": "gate", **RESULT.as_dict(), "mood": "good"})
    journal.write("weather", outside="rain")
    append(journal, newer.replace("diffspeed/1", "diffspeed/1.3"))
    session = read_journal(journal.path)
    assert [gate.result for gate in session.gates] == [RESULT]
    assert session.left_out == 0


def test_another_major_version_is_refused_in_one_sentence(journal):
    journal.write("gate-start", **START)
    append(journal, '{"schema": "diffspeed/2", "kind": "pair"}\n')
    with pytest.raises(RecordError) as error:
        read_journal(journal.path)
    assert str(error.value) == (
        f"{journal.path} holds records of schema diffspeed/2 and this version of "
        "pytest-diffspeed reads diffspeed/1 only; use the version that wrote them"
    )


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RecordError, match=r"^cannot read the records in .*: No such file"):
        read_journal(tmp_path / "none.jsonl")


def test_an_empty_file(journal):
    journal.path.touch()
    assert read_journal(journal.path).gates == ()


GOOD = as_line({"kind": "pair", **pair(0)})
CORRUPT = [
    b"\0" * 300,
    b"\xff\xfe not text",
    b"[1, 2]",
    b"17",
    b"null",
    b"[" * 100_000,
    b'{"schema": "diffspeed/1", "kind": "pair", "index": ' + b"9" * 5000 + b"}",
    b'{"schema": "diffspeed/1"}',
    b'{"schema": "diffspeed/1", "kind": 3}',
    b'{"schema": "otherspeed/1", "kind": "pair"}',
    b'{"schema": "diffspeed/1; import os", "kind": "pair"}',
    b'{"schema": 1, "kind": "pair"}',
    b'__import__("os").abort()',
    GOOD.replace("2.0", "NaN").encode(),
    GOOD.replace("2.0", "1e999").encode(),
    GOOD.replace("2.0", "-2.0").encode(),
    GOOD.replace("2.0", "0").encode(),
    GOOD.replace("2.0", "true").encode(),
    GOOD.replace("2.0", '"2.0"').encode(),
    GOOD.replace("2.0", "9" * 400).encode(),
    GOOD.replace('"index": 0', '"index": 0.5').encode(),
    GOOD.replace('"index": 0', '"index": -1').encode(),
    GOOD.replace("false", "0").encode(),
    GOOD.replace('"stack"', '"stcak"').encode(),
    as_line({"kind": "gate", **RESULT.as_dict(), "verdict": "GREAT"}).encode(),
    as_line({"kind": "gate", **RESULT.as_dict(), "figures": []}).encode(),
    as_line({"kind": "gate", **RESULT.as_dict()}).replace("2.0", "NaN").encode(),
    as_line({"kind": "gate", **RESULT.as_dict(), "evidence": "guessed"}).encode(),
]


@pytest.mark.parametrize("corrupt", CORRUPT, ids=range(len(CORRUPT)))
def test_a_corrupt_line_costs_nothing_but_itself(journal, corrupt):
    journal.write("pair", **pair(0))
    append(journal, corrupt.rstrip(b"\n") + b"\n")
    journal.write("pair", **pair(1))
    session = read_journal(journal.path)
    assert [p.index for gate in session.gates for p in gate.pairs] == [0, 1]
    assert session.left_out == 1
    assert session.note == f"1 line of {journal.path} could not be read and counts as not written"


def test_a_file_torn_at_any_byte_gives_all_whole_lines(journal):
    journal.write("gate-start", **START)
    for index in range(2):
        journal.write("pair", **pair(index, test="t.py::tést[a+b]"))
    whole = journal.path.read_bytes()
    ends = [i for i in range(len(whole)) if whole[i : i + 1] == b"\n"]
    for length in range(len(whole)):
        journal.path.write_bytes(whole[:length])
        read = read_lines(journal.path)
        # A line that lacks nothing but its line feed counts, too.
        assert len(read.records) == sum(end <= length for end in ends)
        assert read.left_out == (length > 0 and length not in ends and length - 1 not in ends)


def test_random_damage_never_crashes_the_reader(journal):
    draw = random.Random(0)
    journal.write("gate-start", **START)
    for index in range(5):
        journal.write("pair", **pair(index))
    journal.write("gate", **RESULT.as_dict())
    whole = journal.path.read_bytes()
    for _ in range(500):
        damaged = bytearray(whole)
        for _ in range(draw.randrange(1, 20)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        journal.path.write_bytes(bytes(damaged))
        try:
            session = read_journal(journal.path)
        except RecordError:
            continue  # the damage made it "diffspeed/2"
        assert len(session.gates) <= 7


MEASURE_FOR_EVER = """
import os, sys
from pathlib import Path
from pytest_diffspeed import measure_speedup
from pytest_diffspeed.records.journal import Journal

journal = Journal(Path(sys.argv[1]))
identity = {"test": "t.py::t", "stack": "bf16", "claim": "min_speedup over fp32 per call"}
measuring = False

class Undecided:
    # Every pair is a tie at the threshold, in whatever order its calls run.
    def time(self, call):
        if measuring:
            os.write(1, b".")  # a call begins
        return 1.0, call()

def warm(*_):
    global measuring
    measuring = True
    os.write(1, b"warm\\n")

journal.write("gate-start", **identity, seed=0)
measure_speedup(
    lambda: None, lambda: None, min_ratio=1.0, budget_s=1e9, clock=Undecided(), on_warm=warm,
    on_pair=lambda pair: journal.write("pair", **identity, **vars(pair)),
)
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_run_loses_at_most_the_pair_in_progress(tmp_path, seed):
    path = tmp_path / "j.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", MEASURE_FOR_EVER, str(path)], stdout=subprocess.PIPE, bufsize=0
    ) as run:
        assert run.stdout.readline() == b"warm\n"
        # A random moment of the run: after so many calls, and what the scheduler adds.
        wanted = random.Random(seed).randrange(1, 400)
        begun = 0
        while begun < wanted:
            read = os.read(run.stdout.fileno(), 64)
            assert read, "the run ended by itself"
            begun += len(read)
        run.send_signal(signal.SIGKILL)
        begun += len(run.stdout.read())
    assert run.returncode == -signal.SIGKILL
    session = read_journal(path)
    (gate,) = session.gates
    assert gate.result.verdict is VerdictKind.INCONCLUSIVE
    assert not gate.finished
    # Pair n begins with call 2n + 1, and only after pair n - 1 was flushed.
    assert (begun - 1) // 2 <= len(gate.pairs) <= begun // 2
    assert [p.index for p in gate.pairs] == list(range(len(gate.pairs)))
    assert session.left_out <= 1
    assert math.isfinite(gate.result.figures["ratio"]) or not gate.pairs


def test_what_is_read_is_json_again(journal):
    """A rebuilt gate can be exported: its figures are plain."""
    journal.write("pair", **pair(0))
    (gate,) = read_journal(journal.path).gates
    assert (
        json.loads(as_line({"kind": "gate", **gate.result.as_dict()}))["figures"]["noise"] is None
    )

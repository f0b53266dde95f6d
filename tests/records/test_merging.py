"""Records of several sessions as one: nothing is lost, and nothing that is missing looks green."""

import pytest

from pytest_diffspeed.common.errors import RecordError
from pytest_diffspeed.records.journal import write_all
from pytest_diffspeed.records.merging import KILLED, merge
from pytest_diffspeed.records.outcome import red_reasons
from pytest_diffspeed.records.reader import read_journal

CPU = {"kind": "cpu", "name": "AMD EPYC, 2 cores"}
L4 = {"kind": "cuda", "name": "NVIDIA L4"}
END = {"kind": "end", "exit_status": 0, "strict": False, "no_verdict": []}
SYNCS, BREAKS = "no_gpu_syncs in scheduler.step", "no_graph_breaks"


def about(name, device=CPU, **changes):
    return {
        "kind": "session",
        "session": name,
        "at": "2026-11-25T10:00:00+00:00",
        "environment": {"device": device["name"], "torch": "2.14.1"},
        "device": device,
        "machine": device["name"],
        "commit": "0123abc",
        "dirty": False,
        **changes,
    }


def gate(test, verdict="PASS", claim=SYNCS, **changes):
    return {
        "kind": "gate",
        "test": f"t.py::{test}[bf16]",
        "stack": "bf16",
        "claim": claim,
        "gate": claim.partition(" ")[0],
        "verdict": verdict,
        "reason": "shown",
        "evidence": "counted",
        "blocking": verdict == "FAIL",
        "figures": {},
        **changes,
    }


def shard(number, of=2, plan=None):
    return {"number": number, "of": of, "plan": plan}


@pytest.fixture
def merged(tmp_path):
    """What the sessions tell as one, each written to a file of its own."""

    def merged_(*sessions, **options):
        paths = [tmp_path / f"{number}.jsonl" for number in range(1, len(sessions) + 1)]
        for path, records in zip(paths, sessions, strict=True):
            write_all(path, records)
        return merge(paths, **options).session

    return merged_


def test_shards_are_one_suite(merged):
    first = [about("a", shard=shard(1)), gate("test_a"), END]
    second = [about("b", shard=shard(2)), gate("test_b"), END]
    session = merged(first, second)
    assert [one.result.test for one in session.latest] == [
        "t.py::test_a[bf16]",
        "t.py::test_b[bf16]",
    ]
    assert red_reasons(session) == ()
    assert (session.missing, session.remarks) == ((), ())


def test_one_file_holds_what_several_did(tmp_path):
    sessions = [about("a"), gate("test_a"), END], [about("b", L4), gate("test_a", "FAIL"), END]
    for number, records in enumerate(sessions):
        write_all(tmp_path / f"{number}.jsonl", records)
    together = merge([tmp_path / "0.jsonl", tmp_path / "1.jsonl"])
    write_all(tmp_path / "all.jsonl", together.records)
    again = merge([tmp_path / "all.jsonl"]).session
    assert [part.gates for part in again.parts] == [part.gates for part in together.session.parts]
    assert red_reasons(again) == red_reasons(together.session) == ("1 gate FAIL",)


@pytest.mark.parametrize(
    ("numbers", "of", "missing"),
    [([1], 2, "shard 2/2 is not here"), ([2, 4], 4, "shards 1/4, 3/4 are not here")],
)
def test_a_missing_shard_is_red(merged, numbers, of, missing):
    sessions = [[about(f"{n}", shard=shard(n, of)), gate(f"test_{n}"), END] for n in numbers]
    (reason,) = red_reasons(merged(*sessions))
    assert reason.startswith(missing)


def test_a_matrix_of_devices_needs_each_shard_on_each(merged):
    ran = [(1, CPU), (2, CPU), (1, L4)]
    sessions = [
        [about(f"{n}{device['name']}", device, shard=shard(n)), gate(f"test_{n}"), END]
        for n, device in ran
    ]
    (reason,) = red_reasons(merged(*sessions))
    assert reason.startswith("shard 2/2 is not here of NVIDIA L4")
    # Two models of processors are one pool of runners, and share the shards of one suite.
    other = {"kind": "cpu", "name": "Intel Xeon, 2 cores"}
    pool = [
        [about("a", shard=shard(1)), gate("test_1"), END],
        [about("b", other, shard=shard(2)), gate("test_2"), END],
    ]
    assert red_reasons(merged(*pool)) == ()


def test_shards_of_two_plans_are_red(merged):
    first = [about("a", shard=shard(1, plan="aaa")), gate("test_a"), END]
    second = [about("b", shard=shard(2, plan="bbb")), gate("test_b"), END]
    reasons = red_reasons(merged(first, second))
    assert reasons[0].startswith("the shards are of 2 plans") and "1/2@aaa" in reasons[0]
    # A plan of its own for each device is as it should be.
    alone = [about("a", shard=shard(1, 1, "aaa")), gate("test_a"), END]
    other = [about("b", L4, shard=shard(1, 1, "bbb")), gate("test_a"), END]
    assert red_reasons(merged(alone, other)) == ()


def test_fewer_sessions_than_were_asked_for_are_red(merged):
    session = merged([about("a"), gate("test_a"), END], sessions=3)
    assert red_reasons(session) == ("1 session of 3 are here (--shards 3)",)


def test_a_shard_without_a_gate_is_fine_if_the_whole_has_some(merged):
    nothing = [about("a"), gate("test_a", "NOT_APPLICABLE", evidence=None), END]
    no_tests = [about("b"), {**END, "exit_status": 5}]
    assert red_reasons(merged(nothing, no_tests, [about("c"), gate("test_c"), END])) == ()
    (reason,) = red_reasons(merged(nothing, no_tests))
    assert "none reached a verdict" in reason


def test_a_session_that_failed_makes_the_whole_red(merged):
    fine = [about("a"), gate("test_a"), END]
    for status, words in [(1, "tests without gates failed"), (2, "interrupted"), (4, "usage")]:
        ended = [about("b"), gate("test_b"), {**END, "exit_status": status}]
        (reason,) = red_reasons(merged(fine, ended))
        assert f"exit status {status}" in reason and words in reason
    # Where a gate says so, once is enough; where it was expected to, nobody says anything.
    failing = [about("b"), gate("test_b", "FAIL"), {**END, "exit_status": 1}]
    assert red_reasons(merged(fine, failing)) == ("1 gate FAIL",)
    xfailed = {"kind": "test", "test": "t.py::test_b[bf16]", "outcome": "skipped"}
    assert red_reasons(merged(fine, [about("b"), gate("test_b", "FAIL"), xfailed, END])) == ()


def test_a_killed_shard_says_what_it_had_not_reached(merged):
    asked = {
        "kind": "asked",
        "tests": {"t.py::test_a[bf16]": [SYNCS, BREAKS], "t.py::test_b[bf16]": [SYNCS]},
    }
    killed = [about("a"), asked, gate("test_a")]
    session = merged(killed, [about("b"), gate("test_c"), END])
    assert [(one["test"], one["claim"]) for one in session.not_run] == [
        ("t.py::test_a[bf16]", BREAKS),
        ("t.py::test_b[bf16]", SYNCS),
    ]
    assert {one["reason"] for one in session.not_run} == {KILLED}
    (reason,) = red_reasons(session)
    assert "1.jsonl: this session has no end" in reason and "not reached 1 test" in reason
    # What another session of that device found is not lost.
    again = [about("b"), gate("test_b"), gate("test_a", claim=BREAKS), END]
    assert merged(killed, again).not_run == ()


def test_a_gate_that_was_killed_does_not_take_the_pairs_of_the_next_session(merged):
    timed = {"test": "t", "stack": "bf16", "claim": "min_speedup over fp32 per call"}
    pair = {"kind": "pair", **timed, "index": 0, "baseline_s": 2.0, "candidate_s": 1.0,
            "candidate_first": False, "dropped": None}  # fmt: skip
    killed = [about("a"), {"kind": "gate-start", **timed, "seed": 1}, pair]
    session = merged(killed, [about("b"), pair, pair, END])
    assert [len(one.pairs) for one in session.latest] == [1, 2]


def test_mixed_commits_are_refused_unless_asked_for(merged):
    old, new = [about("a"), gate("a"), END], [about("b", commit="fff"), gate("b"), END]
    with pytest.raises(RecordError, match=r"of 2 commits \(.*1.jsonl: 0123abc; .*--mixed-commits"):
        merged(old, new)
    session = merged(old, new, mixed_commits=True)
    assert len(session.latest) == 2 and "2 commits" in session.remarks[0]


def test_trees_of_one_commit_differ_by_what_nobody_committed(merged):
    clean = [about("a", tree={"digest": "1"}), gate("a"), END]
    same = [about("b", dirty=True, tree={"digest": "1"}), gate("b"), END]
    without_gates = [about("c", dirty=True), END]
    assert merged(clean, same, without_gates).remarks == ()
    edited = [about("d", dirty=True, tree={"digest": "2"}), gate("d"), END]
    with pytest.raises(RecordError, match="of 2 working trees"):
        merged(clean, edited)


def test_a_test_that_ran_twice_on_a_device_counts_as_its_worse_run(merged):
    red, green = [about("a"), gate("test_a", "FAIL"), END], [about("b"), gate("test_a"), END]
    for runs in ([red, green], [green, red]):
        session = merged(*runs)
        assert len(session.latest) == 2
        assert red_reasons(session) == ("1 gate FAIL",)
        assert "ran in more than one session on AMD EPYC" in session.remarks[0]
    # On two devices it is what columns are for.
    assert merged(green, [about("c", L4), gate("test_a"), END]).remarks == ()


def test_a_session_in_two_files_counts_once(merged):
    whole = [about("a"), gate("test_a"), gate("test_b"), END]
    session = merged(whole[:2], whole)
    assert len(session.latest) == 2 and not session.missing
    assert "once more" in session.remarks[0]


def test_strict_asks_for_a_verdict_in_one_of_the_sessions(merged):
    lost = {"test": "t.py::test_b[bf16]", "claim": SYNCS, "reason": "deselected"}
    first = [about("a"), gate("test_a"), {**END, "strict": True, "no_verdict": [lost]}]
    (reason,) = red_reasons(merged(first, [about("b"), gate("test_c"), END]))
    assert reason.startswith("no verdict (strict): t.py::test_b[bf16]") and "deselected" in reason
    assert red_reasons(merged(first, [about("b"), gate("test_b"), END])) == ()
    # A gate of a GPU is not asked of a CPU, as long as a GPU was asked.
    on_cpu = [about("a"), gate("test_a"), gate("test_b", "NOT_APPLICABLE"), END]
    assert red_reasons(merged(on_cpu, [about("b", L4), gate("test_b"), END]), strict=True) == ()
    (reason,) = red_reasons(merged(on_cpu), strict=True)
    assert "NOT_APPLICABLE" in reason


def test_a_file_without_records_is_red_and_alone_an_error(merged, tmp_path):
    (reason,) = red_reasons(merged([], [about("a"), gate("test_a"), END]))
    assert "1.jsonl holds no records" in reason
    with pytest.raises(RecordError, match="holds no records, and nothing was written"):
        merged([])


def test_another_schema_is_refused_whole(tmp_path, merged):
    (tmp_path / "new.jsonl").write_text('{"schema": "diffspeed/9", "kind": "session"}\n')
    write_all(tmp_path / "a.jsonl", [about("a"), gate("test_a"), END])
    with pytest.raises(RecordError, match=r"new.jsonl holds records of schema diffspeed/9"):
        merge([tmp_path / "a.jsonl", tmp_path / "new.jsonl"])


def test_files_of_before_are_taken_at_their_word(merged):
    """Version 0.1 wrote no end; lines of tests stood only in what a session wrote when it ended."""
    test = {"kind": "test", "test": "t.py::test_a[bf16]", "outcome": "passed"}
    assert red_reasons(merged([about("a"), gate("test_a"), test])) == ()
    assert "no end" in red_reasons(merged([about("a"), gate("test_a")]))[0]


def test_the_reader_tells_the_sessions_of_a_file_apart(tmp_path):
    write_all(tmp_path / "all.jsonl", [about("a"), gate("test_a"), about("b", L4), gate("test_a")])
    session = read_journal(tmp_path / "all.jsonl")
    assert [part.about["session"] for part in session.sessions] == ["a", "b"]
    assert len(session.latest) == 2

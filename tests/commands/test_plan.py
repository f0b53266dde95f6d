"""``diffspeed plan``: shards that end at about one time, and lose no test."""

import pytest

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.commands.shard_balance import PlannedShard, PlannedTest, balance
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.journal import write_all
from pytest_diffspeed.reports.writers import writer_of


def made(*seconds, arm="bf16 of demo"):
    return [PlannedTest(f"{arm} {n}", one, arm) for n, one in enumerate(seconds)]


def names(shard):
    return [test.name for test in shard.tests]


def test_arms_stay_together_where_building_costs_more():
    tests = [*made(10, 10, arm="a"), *made(10, 10, arm="b")]
    shards = balance(tests, 2, {"a": 100.0, "b": 100.0})
    assert [shard.arms for shard in shards] == [["a"], ["b"]]
    assert [shard.seconds for shard in shards] == [120.0, 120.0]


def test_an_arm_is_built_twice_where_that_is_faster():
    shards = balance(made(50, 50, 50, 50), 2, {"bf16 of demo": 5.0})
    assert [shard.seconds for shard in shards] == [105.0, 105.0]
    # As long as it is: here one machine does it all in less than two would.
    tests = [*made(1, 1, arm="a"), *made(1, 1, arm="b"), *made(1, 1, arm="c")]
    shards = balance(tests, 3, {"a": 30.0, "b": 30.0, "c": 30.0})
    assert [shard.arms for shard in shards] == [["a"], ["b"], ["c"]]


def test_no_shard_is_empty_since_pytest_would_take_that_for_all_tests():
    shards = balance(made(1, 1, 1), 3, {"bf16 of demo": 1000.0})
    assert [len(shard.tests) for shard in shards] == [1, 1, 1]


@pytest.mark.parametrize("shards", [1, 2, 3, 7])
def test_each_test_is_in_one_shard_and_the_slowest_is_near_the_least(shards):
    tests = [
        t for n in range(6) for t in made(*(1 + (n * 7 + k) % 11 for k in range(9)), arm=f"{n}")
    ]
    builds = {f"{n}": 3.0 for n in range(6)}
    planned = balance(tests, shards, builds)
    assert sorted(name for shard in planned for name in names(shard)) == sorted(
        t.name for t in tests
    )
    assert [names(s) for s in balance(tests, shards, builds)] == [names(s) for s in planned]
    least = PlannedShard(builds, tests).seconds / shards
    assert max(shard.seconds for shard in planned) <= 1.2 * least + 3.0


SUITE = """
    import pytest

    @pytest.mark.diffspeed("bf16", "channels_last")
    @pytest.mark.no_gpu_syncs()
    def test_a(optimized_pipeline): ...

    @pytest.mark.diffspeed("bf16")
    @pytest.mark.no_graph_breaks()
    def test_b(optimized_pipeline): ...

    def test_plain(): ...
"""
A, OTHER, B = (
    "test_s.py::test_a[bf16]",
    "test_s.py::test_a[channels_last]",
    "test_s.py::test_b[bf16]",
)


def recorded(name="s", device=("cuda", "NVIDIA L4"), **seconds):
    about = {
        "kind": "session",
        "session": name,
        "at": "2026-11-25T10:00:00+00:00",
        "environment": {},
        "device": {"kind": device[0], "name": device[1]},
    }
    tests = [
        {"kind": "test", "test": test, "outcome": "passed", "duration_s": call, "setup_s": setup}
        for test, (call, setup) in seconds.items()
    ]
    ladder = {"kind": "ladder", "stack": "bf16"}  # evidence: what the history keeps sessions for
    return [about, *tests, ladder, {"kind": "end", "exit_status": 0}]


@pytest.fixture
def suite(pytester, monkeypatch, capfd):
    pytester.makepyfile(test_s=SUITE)
    monkeypatch.chdir(pytester.path)

    def plan(*words):
        code = main(["plan", *words])
        return code, capfd.readouterr()

    return plan


def test_it_prints_and_writes_what_pytest_takes(suite, pytester):
    write_all(pytester.path / "r.jsonl", recorded(**{A: (100, 20), OTHER: (120, 8), B: (30, 0)}))
    code, shown = suite("--shards", "2", "--records", "r.jsonl", "--write", "shards")
    assert code == 0, shown.err
    assert ": 4 tests in 2 shards, by 1 session on NVIDIA L4" in shown.out
    first, second = (
        (pytester.path / "shards" / f"shard-{n}-of-2.txt").read_text().splitlines() for n in (1, 2)
    )
    # 100 + 20 | 120 + 30 + 8 + 20 is slower than 100 + 30 + 20 | 120 + 8: bf16 stays together.
    assert first[1:] == [A, B]
    assert second[1:] == [OTHER, "test_s.py::test_plain"]
    plan = first[0].rpartition("@")[2]
    assert [first[0], second[0]] == [f"--diffspeed-shard={n}/2@{plan}" for n in (1, 2)]
    assert "shard 1/2: 2 tests of 1 arm, predicted 150 s, 20 s of them for building" in shown.out
    assert "predicted: 150 s until the last shard ends, 279 s on one machine" in shown.out
    assert "no record" not in shown.out
    # The same again is the same plan, and without a folder its words are printed.
    code, again = suite("--shards", "2", "--records", "r.jsonl")
    assert f"    {first[0]}\n    {A}\n    {B}\n" in again.out


@pytest.mark.skipif(tuple(map(int, pytest.__version__.split(".")[:2])) < (8, 2), reason="no @file")
def test_pytest_takes_the_file_of_a_shard(suite, pytester):
    suite("--shards", "2", "--write", "shards")
    found = [
        pytester.inline_run("--collect-only", "--diffspeed", f"@shards/shard-{n}-of-2.txt")
        for n in (1, 2)
    ]
    (first, second) = (
        {item.nodeid for item in run.getcalls("pytest_collection_finish")[0].session.items}
        for run in found
    )
    assert first | second == {A, OTHER, B, "test_s.py::test_plain"}
    assert not first & second


def test_what_no_record_tells_of_is_guessed_and_said(suite, pytester):
    write_all(pytester.path / "r.jsonl", recorded(**{A: (100, 20), B: (30, 0)}))
    _, shown = suite("--shards", "2", "--records", "r.jsonl")
    assert f"no record tells of 1 test, taken for 65 s each: {OTHER}" in shown.out
    _, shown = suite("--shards", "2")
    assert "no record tells of 3 tests, taken for 60 s each" in shown.out


def test_seconds_come_from_the_history(suite, pytester):
    for number, seconds in enumerate((100, 110, 500)):
        records = recorded(f"s{number}", **{A: (seconds, 2), B: (1, 0), OTHER: (1, 1)})
        writer_of("store")("sqlite:///h.db", FinishedSession(records, pytester.path))
    words = ["--shards", "2", "--store", "sqlite:///h.db", "--rootdir", str(pytester.path)]
    _, shown = suite(*words)
    assert "by 3 sessions on NVIDIA L4" in shown.out
    assert "predicted: 112 s until the last shard ends" in shown.out  # the median and its build


def test_seconds_of_two_devices_are_not_mixed(suite, pytester):
    write_all(pytester.path / "a.jsonl", recorded("a", **{A: (100, 20)}))
    write_all(pytester.path / "b.jsonl", recorded("b", ("cpu", "AMD EPYC"), **{A: (7, 1)}))
    words = ["--shards", "2", "--records", "a.jsonl", "b.jsonl"]
    code, shown = suite(*words)
    assert code == 2 and "several devices (NVIDIA L4, cpu)" in shown.err
    code, shown = suite(*words, "--device", "cpu")
    assert code == 0 and "by 1 session on AMD EPYC" in shown.out
    code, shown = suite(*words, "--device", "NVIDIA H100*")
    assert code == 2 and "no session ran on 'NVIDIA H100*'" in shown.err


def test_what_cannot_be_dealt_out_is_refused(suite, pytester):
    code, shown = suite("--shards", "9")
    assert code == 2 and "collects 4 tests, so at most that many shards" in shown.err
    code, shown = suite("--shards", "1", "--", "-k", "nothing_of_that_name")
    assert code == 2 and "collects no test" in shown.err
    pytester.makepyfile(test_other=SUITE.replace("bf16", "bf17"))
    code, shown = suite("--shards", "1")
    assert code == 2 and "bf17" in shown.err

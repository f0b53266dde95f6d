"""The speed index: gates against a base, chained over commits."""

import math
from itertools import pairwise

import pytest
from history_sessions import (
    UPGRADED,
    base_line,
    chained,
    commit_name,
    compared,
    gate_lines,
    session,
    session_line,
)

from pytest_diffspeed.history.speed_index import read_indexes
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.reports.html.page import render
from pytest_diffspeed.reports.writers import with_history
from pytest_diffspeed.statistics.unstopped import unstopped_median

TEST = "test_sdxl.py::test_fast[compile]"
ELSEWHERE = {"environment": UPGRADED, "machine": "cd34" * 8}


@pytest.fixture
def indexes(store, add):
    """The indexes of a store that holds some sessions."""

    def indexes(*sessions, **words):
        if sessions:
            add(*sessions)
        with store.reading() as connection:
            return read_indexes(connection, **words)

    return indexes


def values(index):
    return [round(point.value, 4) for point in index.points]


def test_both_arms_became_slower_across_a_change_of_the_machine(indexes):
    """What a ratio over fp32 cannot show: it stays at 1.5, and breaks where the machine does."""
    found = indexes(
        [*compared(1, 0, 1.0), *gate_lines(ratio=1.5)],
        [*compared(2, 1, 0.8), *gate_lines(ratio=1.5)],
        [*compared(3, 2, 1.0, about=ELSEWHERE), *gate_lines(ratio=1.5)],
        [*compared(4, 3, 1.25, about=ELSEWHERE), *gate_lines(ratio=1.5)],
    )
    (index,) = found
    assert values(index) == [1, 1, 0.8, 0.8, 1]
    assert [point.commit for point in index.points] == [commit_name(n) for n in range(5)]
    assert [point.subject for point in index.points] == [f"Change {n}" for n in range(5)]
    assert (index.test, index.stack, index.unit) == (TEST, "compile", "call")
    assert (index.condition, index.device_kind, index.environments) == ("demo, 4 steps", "cpu", 2)
    (drop,) = index.drops
    assert (drop.base, drop.head, drop.subject) == (commit_name(1), commit_name(2), "Change 2")
    assert (drop.low, drop.ratio, drop.high) == pytest.approx((0.776, 0.8, 0.824))
    widths = [point.high / point.low for point in index.points]
    assert widths == sorted(widths)
    assert (index.points[0].low, index.points[0].high) == (1, 1)
    assert index.by_chance == pytest.approx(4 * 0.05)


def test_commits_are_nodes_and_not_an_order(indexes):
    """Two branches from one commit, of which one is older than its base."""
    first, second = indexes(
        compared(1, 5, 0.9), compared(9, 5, 1.1), compared(20, 19, 1.0), anchor=commit_name(5)[:8]
    )
    assert values(first) == [0.9, 1, 1.1]
    assert values(second) == [1, 1]


def test_of_commits_of_one_second_the_base_stands_first(indexes):
    now = {"committed_at": session_line(0)["committed_at"]}
    order = [3, 1, 2, 0]
    (index,) = indexes(
        *(
            [session_line(head, **now), base_line(head, base, 1.0, about=now)]
            for base, head in pairwise(order)
        )
    )
    assert [point.commit for point in index.points] == [commit_name(n) for n in order]


def test_a_base_whose_time_is_found_later_takes_its_place(indexes):
    undated = {"committed_at": None}
    (index,) = indexes(
        [session_line(6), base_line(6, 2, 1.0, about=undated)],
        compared(9, 4, 1.0),
        compared(9, 2, 1.0, about={"name": "again"}),
    )
    assert [point.commit for point in index.points] == [commit_name(n) for n in (2, 4, 6, 9)]


def test_what_is_no_comparison_of_two_commits(indexes):
    environment = {"torch": "2.13.0"}
    assert not indexes(
        session(1),
        compared(2, 1, 0.9, about={"dirty": True}),
        compared(3, 2, 0.9, about={"commit": None}),
        [session_line(4), base_line(4, 3, 0.9, about={"python": "python3", "commit": None})],
        [session_line(5), base_line(5, 4, 0.9, about={"python": "python3"})],
        [session_line(6), base_line(6, 5, 0.9, about={"environment": environment})],
        [session_line(7), base_line(7, 6, 0.9, about={"commit": ["a list"]})],
        [session_line(8), base_line(8, 7, 0.9, remembered_from="2026-01-01T00:00:00+00:00")],
        [session_line(9), base_line(9, 8, -1)],
        compared(10, 10, 1.0),
        [session_line(11), base_line(11, 10, 1.0, against_base="hostile")],
    )


def test_other_stacks_units_conditions_and_kinds_of_device_are_other_curves(indexes):
    options = {"steps": 8, "prompts": ["a cat"]}
    gpu = {"device": {"kind": "cuda", "index": 0, "name": "H100"}}
    found = indexes(
        compared(1, 0, 1.0),
        compared(2, 1, 1.0, unit="denoiser", claim="max_slowdown over base per denoiser"),
        compared(3, 2, 1.0, about={"options": options}),
        compared(4, 3, 1.0, about=gpu),
        compared(5, 4, 1.0, test="test_other"),
    )
    assert [len(index.points) for index in found] == [2] * 5
    # The base has another name in each session, which makes other series and no other curve.
    about = {"base": {"rev": "HEAD~1", "python": None}}
    (other,) = indexes(compared(6, 5, 1.0, test="test_other", about=about), test="test_other")
    assert values(other) == [1, 1, 1]
    assert indexes(test="nothing") == []


def test_several_sessions_of_one_comparison(indexes):
    both = {"name": "again"}
    (index,) = indexes(compared(1, 0, 0.9, half=0.04), compared(1, 0, 1.0, half=0.04, about=both))
    (comparison,) = index.comparisons
    assert comparison.sessions == 2
    assert comparison.ratio == pytest.approx(0.9487, abs=0.002)
    assert comparison.high - comparison.low > 0.08  # they exclude each other


def test_pairs_are_counted_once(indexes):
    """Two gates of one session share them, and a session that went on holds those before."""
    more = {"name": "again", "at": "2026-01-02T00:00:00+00:00"}
    lines = [
        session_line(1),
        base_line(1, 0, 0.9, pairs=20),
        base_line(1, 0, 0.5, pairs=6, claim="min_speedup over base per call"),
    ]
    (index,) = indexes(lines)
    assert values(index) == [1, 0.9]
    (index,) = indexes(compared(1, 0, 0.95, pairs=30, earlier_pairs=20, about=more))
    assert (values(index), index.comparisons[0].sessions) == ([1, 0.95], 1)


def test_open_intervals_stay_open(indexes):
    (index,) = indexes(compared(1, 0, 1.0, high=None), compared(2, 1, 0.9))
    last = index.points[-1]
    assert (last.low < 0.9, last.high) == (True, None)
    assert len(index.drops) == 1


def test_a_gate_that_stopped_at_lucky_pairs_counts_without_its_luck(indexes):
    """Its median is 0.985; in the orders that end there the losses came first."""
    who = {"test": TEST, "stack": "compile", "claim": "max_slowdown over base per call"}
    ratios = [0.94, 0.98, 0.985, 0.94, 0.99, 0.985, 0.99, 0.98, 0.99, 0.985, 0.99, 0.99]
    rest = {"candidate_first": True, "dropped": None, "baseline_s": 1.0}
    pairs = [
        {"kind": "pair", **who, **rest, "index": index, "candidate_s": 1 / ratio}
        for index, ratio in enumerate(ratios)
    ]
    dropped = [{**pairs[0], "candidate_s": 9.0, "dropped": "it began on a busy machine"}]
    figures = {"need": 0.95, "alpha": 0.05, "coverage": 0.9, "method": "sign"}
    line = base_line(1, 0, 0.985, **figures)
    lucky = unstopped_median([math.log(ratio / 0.95) for ratio in ratios], 0.05, 0.05)
    (index,) = indexes([session_line(1), *pairs, *dropped, line])
    assert index.points[1].value == pytest.approx(0.95 * math.exp(lucky))
    assert index.points[1].value < 0.985
    assert index.points[1].low == pytest.approx(0.985 * 0.97)
    # Another kind of bet, and pairs that are elsewhere: the ratio of the record.
    for change in ({"method": "bet"}, {"pairs": 13}, {"need": None}, {"coverage": 0.95}):
        name = {"name": f"{len(change)}{next(iter(change))}"}
        again = base_line(3, 2, 0.985, **{**figures, **change})
        (*_, index) = indexes([session_line(3, **name), *pairs, again])
        assert index.points[1].value == pytest.approx(0.985)
    # A gate that runs again starts again.
    start = {"kind": "gate-start", **who, "seed": 1}
    (*_, index) = indexes([session_line(5), *pairs, start, *pairs, base_line(5, 4, 2.0, **figures)])
    assert index.points[1].value == pytest.approx(0.95 * math.exp(lucky))


def test_reports_get_the_newest_curve_of_their_tests_and_draw_it(store, add, tmp_path):
    sessions = list(chained())
    add(compared(30, 29, 1.0, test="test_other"), *sessions)
    before = with_history(FinishedSession(sessions[5], tmp_path), store.url)
    (index,) = (one for one in before.series if one.figure == "speed index")
    assert index.points[0].commit == commit_name(16)  # joined to no earlier one
    assert (index.test, index.better, index.changes) == (TEST, "higher", [])

    add(compared(16, 15, 0.9, about=ELSEWHERE))
    after = with_history(FinishedSession(sessions[5], tmp_path), store.url)
    (index,) = (one for one in after.series if one.figure == "speed index")
    assert index.claim == "per call, of 20 comparisons with a base in 2 environments"
    assert [(c.after_commit, c.by_commit) for c in index.changes] == [
        (commit_name(n - 1), commit_name(n)) for n in (8, 16)
    ]
    change = index.changes[1]
    assert index.points[change.index].value == pytest.approx(change.after)
    html = render(after.session, tmp_path, after.series)
    assert "speed index: per call, of 20 comparisons with a base in 2 environments" in html
    assert f"after {commit_name(15)[:10]} by {commit_name(16)[:10]}" in html


# --- what is printed


def test_index_prints_curves_ends_and_drops(history):
    lines, err, status = history("index", "test_FAST", sessions=chained())
    assert (err, status) == ("", 0)
    assert lines[0] == f"{TEST}, stack compile"
    assert lines[5].startswith(f"    0.9318 [0.8788, 0.9871] at {commit_name(15)[:10]} (2026-01-01")
    assert lines[9] == (
        f"no base comparison joins {commit_name(15)[:10]} to {commit_name(16)[:10]}, so the next "
        "is a curve of its own"
    )
    assert lines[-1] == (
        f"the largest drop of all: git log --oneline {commit_name(7)[:10]}..{commit_name(8)[:10]}"
    )
    lines, _, _ = history("show", TEST)
    assert f"speed index over 21 commits: diffspeed history index '{TEST}'" in lines
    lines, _, _ = history("index", "--points", "--anchor", commit_name(9))
    assert f"    2026-01-01T09:00:00+00:00  {commit_name(9)[:10]} 1  Change 9" in lines
    assert sum(line.startswith("    2026-01-01T") for line in lines) == 21


def test_index_takes_all_tests_with_a_word_in_their_names(history):
    names = ("test_a", "test_b", "other")
    sessions = [compared(n + 1, n, 1.0, test=name) for n, name in enumerate(names)]
    lines, _, _ = history("index", "TEST_", sessions=sessions)
    assert [line for line in lines if ", stack" in line] == [
        "test_a, stack compile",
        "test_b, stack compile",
    ]
    assert not [line for line in lines if "no base comparison joins" in line]


def test_index_names_what_the_arms_did_not_share(history):
    note = "its call has steps 4 in the base and 8 here"
    sessions = [compared(1, 0, 0.5, differing=[note])]
    lines, _, _ = history("index", sessions=sessions)
    assert lines[-3:] == [
        "    no other is slower by more than its interval; without any change, expect at most 0.05",
        "",
        f"what made it slower: git log --oneline {commit_name(0)[:10]}..{commit_name(1)[:10]}",
    ]
    assert lines[-4].endswith(f"over {commit_name(0)[:10]}; {note}")


def test_curves_that_nothing_joins_are_folded(history):
    sessions = [compared(n, n - 1, 1.0) for n in range(1, 20, 2)]
    lines, _, _ = history("index", sessions=sessions)
    assert sum(line.startswith("speed index") for line in lines) == 3
    assert lines[-3] == (
        "7 earlier curves of this test that no base comparison joins to these are left out; --all "
        "prints all"
    )
    assert lines[-1] == "every commit: diffspeed history index --points"
    lines, _, _ = history("index", "--all", "--points")
    assert sum(line.startswith("speed index") for line in lines) == 10
    assert lines[-1] == "all tests: diffspeed history list"


def test_index_says_why_there_is_none(history):
    lines, err, status = history("index", sessions=[session(1)])
    assert (lines, status) == ([], 2)
    assert err == (
        "diffspeed: no clean tree was compared with another commit of the same environment; "
        "pytest --diffspeed --diffspeed-base=HEAD~1 does it for the commit checked out\n"
    )
    _, err, status = history("index", "fast", sessions=[session(1)])
    assert (status, "of a test with 'fast' in it was" in err) == (2, True)
    _, err, status = history("index", "nothing", sessions=[compared(2, 1, 1.0)])
    assert (status, "no test of this history is called 'nothing', nor" in err) == (2, True)
    _, err, status = history("index", "--anchor", "ffff")
    assert (status, "no comparison has a commit 'ffff'" in err) == (2, True)
    lines, _, _ = history("show", "test_fast", sessions=[session(3)])
    assert not [line for line in lines if line.startswith("speed index over 0")]

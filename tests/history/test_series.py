"""A synthetic history: jumps and drift are found at the right commits, and nowhere else."""

import numpy as np
import pytest
from history_sessions import commit_name, gate_lines, session, session_line

from pytest_diffspeed.history.series import series_of
from pytest_diffspeed.similarity.presets import HIGHER_IS_BETTER

COMMITS = 100
JUMP, DRIFTING, FLAT, BREAKS = "test_jump", "test_drift", "test_flat", "test_breaks"


@pytest.fixture
def history(store, add, tmp_path):
    """100 commits of 23 tests: 20 flat ones, one that jumps, one that drifts, one that counts."""
    shuffle = np.random.default_rng(11)
    sessions = []
    for number in range(COMMITS):
        noise = 1 + 0.02 * shuffle.standard_t(3, size=22)
        ratios = {f"{FLAT}_{i}": 1.8 * noise[i] for i in range(20)}
        ratios[JUMP] = (1.8 if number < 64 else 1.5) * noise[20]
        ratios[DRIFTING] = (1.8 - 0.003 * number) * noise[21]
        records = [session_line(number)]
        for test, ratio in ratios.items():
            records += gate_lines(test=test, ratio=float(ratio), pairs=1)
        records += gate_lines(test=BREAKS, breaks=2 if 30 <= number < 33 else 0)
        sessions.append(records)
    add(*sessions)
    return {series.test: series for series in series_of(store.url, tmp_path)}


def test_planted_changes_are_found_at_their_commits(history):
    (change,) = history[JUMP].changes
    assert change.index == 64
    assert (change.after_commit, change.by_commit) == (commit_name(63), commit_name(64))
    assert change.after / change.before == pytest.approx(1.5 / 1.8, rel=0.01)
    assert not history[JUMP].drift.is_shown

    assert not history[DRIFTING].changes
    drift = history[DRIFTING].drift
    assert drift.is_shown
    assert drift.now - drift.anchor == pytest.approx(-0.28, abs=0.04)
    assert "slow drift of -0.2" in drift.sentence

    begin, end = history[BREAKS].changes
    assert (begin.index, begin.before, begin.after) == (30, 0, 2)
    assert (end.after_commit, end.by_commit) == (commit_name(32), commit_name(33))
    assert history[BREAKS].drift is None

    flat = [series for test, series in history.items() if test.startswith(FLAT)]
    assert len(flat) == 20
    assert [series.changes for series in flat] == [[]] * 20
    assert not any(series.drift.is_shown for series in flat)


def test_points_of_dirty_trees_are_shown_and_bear_nothing(store, add, tmp_path):
    add(*(session(n, ratio=1.8 + n / 1000, breaks=None) for n in range(20)))
    add(*(session(n, ratio=0.9, breaks=None, dirty=True, name=f"d{n}") for n in range(5, 20)))
    (series,) = series_of(store.url, tmp_path)
    assert len(series.points) == 35
    assert sum(point.dirty for point in series.points) == 15
    assert not series.changes
    assert series.drift.anchor == pytest.approx(1.8035)
    # A count that is measured dirty only never changes.
    add(session(50, ratio=None, breaks=3, dirty=True), session(51, ratio=None, breaks=0))
    (counted,) = (s for s in series_of(store.url, tmp_path) if s.figure == "breaks")
    assert not counted.changes


def test_points_stand_in_the_order_of_commits(store, add, tmp_path):
    """An old commit that is measured today belongs to its place in the history."""
    add(session(9, ratio=1.9), session(2, ratio=1.2))
    late = session(5, ratio=1.5, at="2030-01-01T00:00:00+02:00")
    late[0]["committed_at"] = "2026-01-01T07:00:00+02:00"  # 5 o'clock in UTC
    add(late)
    ratio = next(s for s in series_of(store.url, tmp_path) if s.figure == "ratio")
    assert [point.value for point in ratio.points] == [1.2, 1.5, 1.9]
    assert [point.subject for point in ratio.points] == ["Change 2", "Change 5", "Change 9"]
    assert (ratio.points[0].low, ratio.points[0].high) == pytest.approx((1.164, 1.236))


def test_drift_is_told_against_the_anchor_that_is_named(store, add, tmp_path):
    add(*(session(n, ratio=1.8 if n < 20 else 1.5, breaks=None) for n in range(40)))

    def drift(anchor):
        (series,) = series_of(store.url, tmp_path, anchor=anchor)
        return series.drift

    assert (drift(None).anchor, drift(None).now) == (1.8, 1.5)
    assert (drift(commit_name(25)[:8]).anchor, drift(commit_name(25)).now) == (1.5, 1.5)
    assert commit_name(25)[:10] in drift(commit_name(25)).sentence
    assert drift("ffff") is None


def test_only_the_newest_points_are_read_and_words_narrow_down(store, add, tmp_path):
    add(*(session(n, ratio=1 + n) for n in range(6)))
    for series in series_of(store.url, tmp_path, last=2):
        assert [point.subject for point in series.points] == ["Change 4", "Change 5"]
    assert len(series_of(store.url, tmp_path, stack="compile", machine="ab12")) == 2
    assert series_of(store.url, tmp_path, test="test_sdxl") == []
    assert series_of(store.url, tmp_path, stack="bf16") == []
    assert series_of(store.url, tmp_path, machine="%") == []


def test_every_gate_gives_its_figures(store, add, tmp_path):
    def gate(name, claim=None, **figures):
        who = {"test": "t", "stack": "bf16", "claim": claim or name, "reason": ""}
        rest = {"verdict": "PASS", "evidence": "counted", "blocking": False}
        return {"kind": "gate", "gate": name, **who, **rest, "figures": figures}

    metrics = {"psnr": [34.0, 30.0], "other_image_ratio": [0.1, 0.2]}
    sites = [{"file": "a.py", "line": 1}]
    over = {"ratio": 1.2, "low": None, "high": 1.3}
    ladder = {"stack": "bf16", "previous": "tf32", "over_baseline": over, "over_previous": over}
    add(
        [
            session_line(1),
            gate("no_gpu_syncs", first_step=2, outside=1, per_step=[0, 4, 0]),
            gate("no_recompiles", recompiles=3),
            gate("max_memory", memory_ratio=0.5),
            gate("image_similarity", metrics=metrics),
            gate("no_graph_breaks", "no_graph_breaks against base", base={}, new_sites=sites),
            gate("of_somebody_else", ratio=7),
            {"kind": "ladder", **ladder},
        ]
    )
    found = {
        (s.claim, s.figure): (s.points[0].value, s.better) for s in series_of(store.url, tmp_path)
    }
    assert found == {
        ("image_similarity", "other_image_ratio mean"): (0.1, "lower"),
        ("image_similarity", "other_image_ratio worst"): (0.2, "lower"),
        ("image_similarity", "psnr mean"): (34, "higher"),
        ("image_similarity", "psnr worst"): (30, "higher"),
        ("ladder over fp32 per call", "ratio"): (1.2, "higher"),
        ("ladder over tf32 per call", "ratio"): (1.2, "higher"),
        ("max_memory", "memory ratio"): (0.5, "lower"),
        ("no_gpu_syncs", "syncs a step"): (4, "lower"),
        ("no_gpu_syncs", "syncs once"): (3, "lower"),
        ("no_graph_breaks against base", "new sites"): (1, "lower"),
        ("no_recompiles", "recompiles"): (3, "lower"),
    }


def test_each_metric_of_images_videos_and_sounds_has_its_direction(store, add, tmp_path):
    who = {"test": "t", "stack": "bf16", "claim": "image_similarity", "reason": ""}
    rest = {"verdict": "PASS", "evidence": "counted", "blocking": False}
    figures = {"metrics": {name: [1.0, 2.0] for name in HIGHER_IS_BETTER}}
    gate = {"kind": "gate", "gate": "image_similarity", **who, **rest, "figures": figures}
    add([session_line(1), gate])
    assert {s.figure: s.better for s in series_of(store.url, tmp_path)} == {
        f"{name} {which}": "higher" if is_higher else "lower"
        for name, is_higher in HIGHER_IS_BETTER.items()
        for which in ("mean", "worst")
    }


def test_a_cliff_in_a_short_history_is_reported_and_no_drift_is_not(store, add, tmp_path):
    add(*(session(n, ratio=1.8 if n < 4 else 1.4, breaks=None) for n in range(8)))
    (series,) = series_of(store.url, tmp_path)
    (change,) = series.changes
    assert (change.index, change.before, change.after) == (4, 1.8, 1.4)
    assert not series.drift.is_shown
    assert "8 points since 2026-01-01" in series.drift.sentence
    assert ": too few to tell drift from noise; anchor 1.8, now 1.4" in series.drift.sentence


def test_no_store_has_no_series(tmp_path):
    assert series_of("none", tmp_path) == []
    assert series_of("sqlite:///nowhere.sqlite", tmp_path) == []
    assert list(tmp_path.iterdir()) == []

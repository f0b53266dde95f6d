"""The terminal block as text, the pictures, and the progress of long work."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pytest_diffspeed.common.progress import HEARTBEAT_S, Progress
from pytest_diffspeed.gates.pictures import Picture, save_comparison, save_gallery
from pytest_diffspeed.records.verdict import EvidenceKind, GateResult, VerdictKind
from pytest_diffspeed.reports.terminal import (
    failure,
    gate_lines,
    in_order,
    ladder_table,
    reliability,
)


def result(verdict, *, stack="compile", **figures):
    measured = {
        "over": "fp32",
        "need": 1.5,
        "ratio": 1.612,
        "low": 1.548,
        "high": 1.671,
        "pairs": 9,
        "instances": 1,
        "noise": 0.031,
        "candidate_s": 0.2801,
        "candidate_first_call_s": 61.2,
        **figures,
    }
    return GateResult(
        gate="min_speedup",
        claim="min_speedup over fp32 per call",
        test=f"test_a.py::test_fast[{stack}]",
        stack=stack,
        verdict=verdict,
        reason="9 of 9 pairs are on one side.",
        evidence=EvidenceKind.MEASURED,
        blocking=verdict is VerdictKind.FAIL,
        figures=measured,
    )


def test_failures_come_first_and_only_they_give_reasons():
    results = [result(VerdictKind.PASS), result(VerdictKind.FAIL, stack="bf16", need=1.8)]
    (fail, head), (_, found), (_, reason), (passed, line) = gate_lines(results)
    assert (fail, passed) == (VerdictKind.FAIL, VerdictKind.PASS)
    assert head.split()[:2] == ["FAIL", "test_a.py::test_fast[bf16]"]
    assert "noise 3.1 % a pair" in found
    assert reason.strip() == "9 of 9 pairs are on one side."
    assert "noise" not in line


def test_a_pass_says_all_of_it_where_more_words_are_asked_for():
    (_, head), (_, found), (_, reason) = gate_lines([result(VerdictKind.PASS)], verbose=True)
    assert head.split()[:2] == ["PASS", "test_a.py::test_fast[compile]"]
    assert "noise 3.1 % a pair" in found
    assert reason.strip() == "9 of 9 pairs are on one side."


def test_a_reason_that_ends_with_what_was_found_says_it_once():
    words = "0 syncs in the first step"
    counted = replace(result(VerdictKind.PASS), figures={"found": words, "replaces": ["a(2)"]})
    counted = replace(counted, reason=f"syncs in call: {words}\nsecond line")
    _, (_, line), (_, second) = gate_lines([counted], verbose=True)
    assert line.strip() == f"syncs in call: {words} (measured); in the place of a(2)"
    assert second.strip() == "second line"


def test_what_is_surest_comes_first_within_a_verdict():
    names = [
        *("max_compile_time", "max_memory", "min_speedup", "image_similarity", "no_gpu_syncs"),
        "no_graph_breaks",
    ]
    gates = [
        dataclasses.replace(result(verdict), gate=name, claim=name)
        for verdict in (VerdictKind.PASS, VerdictKind.FAIL)
        for name in names
    ]
    order = ["no_gpu_syncs", "no_graph_breaks", "image_similarity", "min_speedup", "max_memory"]
    order.append("max_compile_time")
    assert [(r.verdict, r.gate) for r in in_order(gates)] == [
        *((VerdictKind.FAIL, name) for name in order),
        *((VerdictKind.PASS, name) for name in order),
    ]


def test_a_gate_stands_where_its_record_says():
    """Whatever it is called; and last where this version does not know the place."""
    known = dataclasses.replace(result(VerdictKind.PASS), gate="fewer_ops", axis="structure")
    later = dataclasses.replace(known, axis="energy")
    old = dataclasses.replace(known, axis=None, figures={"ratio": 2.0})
    assert [reliability(r) for r in (known, old, later)] == [0, 2, 5]


def test_figures_that_lack_a_part_are_no_ratio():
    for name in ("ratio", "need", "instances"):
        lacking = result(VerdictKind.PASS, **{name: None})
        assert gate_lines([lacking])[0][1].endswith("min_speedup over fp32 per call")
        assert ladder_table([lacking]) == []


def test_the_table_has_a_row_for_each_measured_stack():
    rows = [result(VerdictKind.PASS), result(VerdictKind.INCONCLUSIVE, stack="bf16", pairs=0)]
    assert ladder_table(rows) == [
        "stack    over  ratio [interval]       a call  first call  pairs  verdict",
        "compile  fp32  1.612× [1.548, 1.671]  0.28 s  61.2 s      9      PASS",
    ]


def test_the_table_names_the_tests_where_there_are_several():
    one = result(VerdictKind.PASS)
    rows = [one, replace(one, test="b.py::T::test_b[compile]")]
    head, _, second = ladder_table(rows)
    assert head.endswith("verdict  test") and second.endswith("PASS     test_b")


def test_an_open_interval_and_unknown_noise_are_written_as_such():
    open_ended = result(VerdictKind.INCONCLUSIVE, low=0.0, high=math.inf, noise=math.nan)
    assert "1.612× [0, ∞]" in ladder_table([open_ended])[1]
    assert "noise unknown a pair" in gate_lines([open_ended])[1][1]


def test_a_result_survives_the_way_through_plain_data():
    before = result(VerdictKind.FAIL)
    assert GateResult.from_dict(before.as_dict()) == before


def test_a_picture_shows_baseline_optimized_and_the_amplified_difference(tmp_path):
    baseline = np.full((64, 64, 3), 0.5, dtype=np.float32)
    optimized = baseline.copy()
    optimized[0, 0] = 0.5 + 1 / 16
    path = save_comparison(tmp_path / "deep" / "p.png", baseline, optimized)
    with Image.open(path) as picture:
        assert picture.size == (3 * 192, 192)
        assert picture.getpixel((100, 100)) == (128, 128, 128)
        assert picture.getpixel((2 * 192, 0)) == (128, 128, 128)  # 8/16 of white
        assert picture.getpixel((2 * 192 + 100, 100)) == (0, 0, 0)


def test_a_gallery_is_numbered_and_shows_this_run_only(tmp_path):
    baseline = np.full((3, 32, 32), 0.5, dtype=np.float32)
    first = [Picture(name, baseline, baseline) for name in ("worst", "middle", "best")]
    save_gallery(tmp_path / "g", first)
    (tmp_path / "g" / "notes.txt").write_text("kept")
    paths = save_gallery(tmp_path / "g", first[:2])
    assert [path.name for path in paths] == ["01-worst.png", "02-middle.png"]
    assert sorted(path.name for path in (tmp_path / "g").iterdir()) == [
        *("01-worst.png", "02-middle.png", "notes.txt")
    ]


def test_a_gate_without_a_ratio_says_itself_what_it_found():
    similar = dataclasses.replace(result(VerdictKind.PASS), figures={"found": "PSNR 48.1 dB"})
    assert gate_lines([similar])[0][1].endswith("  PSNR 48.1 dB (measured)")
    assert ladder_table([similar]) == []


def test_a_phase_says_when_it_starts_and_how_long_it_took():
    lines, times = [], iter([0.0, 61.5])
    progress = Progress(lines.append, now=lambda: next(times))
    with progress.phase("compiling"):
        pass
    assert lines == ["diffspeed: compiling …", "diffspeed: compiling: 61.5 s"]


def test_a_phase_that_raises_does_not_claim_to_have_ended():
    lines = []
    with pytest.raises(ZeroDivisionError), Progress(lines.append).phase("compiling"):
        raise ZeroDivisionError
    assert lines == ["diffspeed: compiling …"]


def test_frequent_states_overwrite_a_line_on_a_terminal_and_thin_out_in_a_log():
    log, times = [], iter([0.0, 0.0, 1.0, 2.0, HEARTBEAT_S, HEARTBEAT_S])
    progress = Progress(log.append, now=lambda: next(times))
    for pair in range(4):
        progress.transient(f"pair {pair}")
    assert log == ["diffspeed: pair 0", "diffspeed: pair 3"]
    overwritten = []
    on_terminal = Progress(log.append, overwritten.append)
    on_terminal.transient("pair 4")
    assert overwritten == ["diffspeed: pair 4"]


def test_without_a_terminal_progress_is_silent(capfd):
    progress = Progress()
    progress.line("a")
    progress.transient("b")
    with progress.phase("c"):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_failure_begins_with_what_a_one_line_summary_needs():
    first, second = failure(result(VerdictKind.FAIL)).splitlines()
    assert first.startswith("FAIL min_speedup over fp32 per call: 1.612× [1.548, 1.671], need ≥ ")
    assert second == "    9 of 9 pairs are on one side."

"""Exports as their consumers read them, from records as sessions write them."""

import csv
import importlib.util
import json
import math
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_benchmark.stats import Stats

from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.records.journal import write_all
from pytest_diffspeed.records.reader import as_result, read_journal, recorded_session
from pytest_diffspeed.reports.exports import formats
from pytest_diffspeed.reports.exports.figures import figures_of, figures_of_result
from pytest_diffspeed.reports.exports.junit import properties
from pytest_diffspeed.reports.exports.pytest_benchmark import _stats
from pytest_diffspeed.similarity.presets import HIGHER_IS_BETTER

TEST = "test_fast.py::test_fast[compile]"
CLAIM = "min_speedup over fp32 per call"


def gate(name, claim=None, *, test=TEST, verdict="PASS", evidence="counted", **figures):
    return {
        "kind": "gate",
        "gate": name,
        "claim": claim or name,
        "test": test,
        "stack": "compile",
        "verdict": verdict,
        "reason": "",
        "evidence": evidence,
        "blocking": verdict == "FAIL",
        "figures": figures,
    }


def pair(index, baseline_s, candidate_s, dropped=None, test=TEST):
    return {
        "kind": "pair" if dropped is None else "dropped-pair",
        **{"test": test, "stack": "compile", "claim": CLAIM, "index": index},
        **{"baseline_s": baseline_s, "candidate_s": candidate_s},
        **{"candidate_first": False, "dropped": dropped, "instance": 0},
    }


SESSION = {
    "kind": "session",
    "session": "s",
    "at": "2026-11-25T10:00:00+00:00",
    "environment": {"torch": "2.14.1"},
    "device": {"kind": "cpu", "name": "AMD EPYC"},
    "commit": "0123abc",
    "machine": "m",
}
SPEEDUP = gate(
    "min_speedup",
    CLAIM,
    evidence="measured",
    **{"over": "fp32", "need": 1.5, "ratio": 2.0, "low": 1.9, "high": None, "pairs": 3},
    **{"instances": 1, "baseline_s": 2.0, "candidate_s": 1.0, "candidate_first_call_s": 60.0},
)
RECORDS = [
    SESSION,
    gate("no_graph_breaks", verdict="FAIL", found="2 breaks", breaks=2, allowed=0),
    gate("no_gpu_syncs", first_step=1, outside=2, per_step=[0, 6, 4], may_block=0),
    gate("no_recompiles", recompiles=0),
    gate("image_similarity", metrics={"psnr": [34.1, None], "mae": [0.01, 0.02]}),
    *(pair(n, 2.0, 1.0 + n / 10) for n in range(3)),
    SPEEDUP,
    gate("max_memory", memory_ratio=0.7),
    gate("max_compile_time", first_call_s=60.0, steady_s=0.3),
    gate("min_speedup", "min_speedup over bf16 per call", verdict="NOT_APPLICABLE", evidence=None),
    {"kind": "end", "exit_status": 1},
]


@pytest.fixture
def records(tmp_path):
    write_all(tmp_path / "r.jsonl", RECORDS)
    return tmp_path / "r.jsonl"


@pytest.fixture
def export(records, tmp_path, capsys):
    """Run the command; gives what it says on stderr."""

    def run(name, *words, output="out.json"):
        place = [] if output is None else ["-o", str(tmp_path / output)]
        assert main(["export", str(records), "--format", name, *place, *words]) == 0
        return capsys.readouterr().err

    return run


def test_ratios_counts_and_similarity_and_no_seconds(records):
    found = figures_of(read_journal(records))
    assert [(f.name, f.value, f.low, f.high, f.better, f.kind) for f in found] == [
        ("breaks", 2, None, None, "lower", "count"),
        ("syncs_first_step", 3, None, None, "lower", "count"),
        ("syncs_per_step", 6, None, None, "lower", "count"),
        ("recompiles", 0, None, None, "lower", "count"),
        ("psnr_mean", 34.1, None, None, "higher", "similarity"),
        ("mae_mean", 0.01, None, None, "lower", "similarity"),
        ("mae_worst", 0.02, None, None, "lower", "similarity"),
        ("ratio", 2.0, 1.9, None, "higher", "ratio"),
        ("memory_ratio", 0.7, None, None, "lower", "ratio"),
    ]
    assert found[0].gate == f"{TEST} (compile): no_graph_breaks"
    timed = {f.name for f in figures_of(read_journal(records), milliseconds=True)}
    assert timed - {f.name for f in found} == {
        *("baseline_s", "candidate_s", "candidate_first_call_s", "first_call_s")
    }


def test_each_image_metric_has_its_direction():
    """In old records too, which say no direction."""
    both = {name: [0.5, 0.5] for name in HIGHER_IS_BETTER}
    old = as_result({**gate("image_similarity", "image_similarity", metrics=both)})
    assert {one.name: one.better == "higher" for one in figures_of_result(old)} == {
        f"{name}_{part}": higher
        for name, higher in HIGHER_IS_BETTER.items()
        for part in ("mean", "worst")
    }


def test_counts_against_a_base_are_the_heads():
    against = gate("no_graph_breaks", "no_graph_breaks against base", found="")
    head = {"unet": {"breaks": 2, "graphs": 3}, "vae.decode": {"breaks": 1, "graphs": 1}}
    against["figures"] |= {"base": {"unet": {"breaks": 0}}, "head": head}
    figures = figures_of(recorded_session([against], None))
    assert [(f.name, f.value, f.better) for f in figures] == [
        ("breaks", 3, "lower"),
        ("graphs", 4, "lower"),
    ]


def test_a_gate_that_ran_again_is_exported_once(tmp_path):
    again = {**SPEEDUP, "figures": {**SPEEDUP["figures"], "ratio": 3.0}}
    (figure,) = figures_of(recorded_session([SPEEDUP, again], None))
    assert figure.value == 3.0


# --- pytest-benchmark


def test_its_own_compare_reads_the_file(export, tmp_path):
    said = export("pytest-benchmark")
    assert "5 gates have no figure that pytest-benchmark can carry" not in said
    assert f"FAIL {TEST} (compile): no_graph_breaks" in said
    export("pytest-benchmark", "--milliseconds", output="seconds.json")
    compared = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_benchmark", "compare", "out.json", "seconds.json"),
            *("--csv=compared.csv", "--group-by=group", "--name=long"),
            "--columns=min,max,mean,stddev,median,iqr,outliers,ops,rounds",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert compared.returncode == 0, compared.stderr
    assert "Failed to load" not in compared.stdout + compared.stderr
    assert f"benchmark '{TEST} (compile): {CLAIM} (seconds)': 2 tests" in compared.stdout.replace(
        '"', "'"
    )
    with (tmp_path / "compared.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    share = rows[f"{TEST} (compile): {CLAIM}: share of fp32's time"]
    assert [float(share[name]) for name in ("min", "median", "max")] == [0.5, 0.55, 0.6]
    assert int(share["rounds"]) == 3
    assert float(rows[f"{TEST} (compile): {CLAIM}: fp32"]["median"]) == 2.0
    assert float(rows[f"{TEST} (compile): {CLAIM}: compile"]["median"]) == 1.1


def test_the_command_of_pytest_benchmark_is_there():
    assert importlib.util.find_spec("pytest_benchmark.__main__") is not None


@given(st.lists(st.floats(min_value=1e-6, max_value=1e6), min_size=1, max_size=40))
@settings(max_examples=200)
def test_statistics_are_those_of_pytest_benchmark(values):
    theirs = Stats()
    for value in values:
        theirs.update(value)
    ours = _stats(values)
    for name, expected in theirs.as_dict().items():
        if isinstance(expected, float) and not name.endswith("15iqr"):
            assert math.isclose(ours[name], expected, rel_tol=1e-6, abs_tol=1e-12), name
        elif name in ("min", "max", "rounds"):
            assert ours[name] == expected


def test_pairs_that_do_not_count_are_not_exported(tmp_path):
    records = [pair(0, 2.0, 1.0), pair(1, 2.0, 9.0, "throttled"), SPEEDUP]
    write_all(tmp_path / "r.jsonl", records)
    main(["export", str(tmp_path / "r.jsonl"), "--format=pytest-benchmark", "-o", f"{tmp_path}/o"])
    (row,) = json.loads((tmp_path / "o").read_text())["benchmarks"]
    assert row["stats"]["data"] == [0.5]


# --- Bencher: what its JSON adapter deserializes (bencher_valid and bencher_json, 2026)


def as_bencher_reads(text):
    """Benchmark name → measure → metric, checked as Bencher's types check it."""
    report = json.loads(text, parse_constant=pytest.fail)
    assert isinstance(report, dict) and report
    for name, measures in report.items():
        assert 1 <= len(name.encode()) <= 1024
        assert not name.endswith(("_bencher_ignore", "BencherIgnore", "-bencher-ignore"))
        assert measures
        for measure, metric in measures.items():
            assert len(measure) <= 64
            assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", measure)  # what slugify leaves as it is
            assert {"value"} <= set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(type(number) is float for number in metric.values())
    return report


def test_bencher_reads_the_file(export, tmp_path):
    export("bencher")
    report = as_bencher_reads((tmp_path / "out.json").read_text())
    assert report[f"{TEST} (compile): {CLAIM}"] == {
        "diffspeed-ratio": {"value": 2.0, "lower_value": 1.9}
    }
    assert report[f"{TEST} (compile): image_similarity"]["diffspeed-psnr-mean"] == {"value": 34.1}


@pytest.mark.parametrize("test", ["t" * 3000, "ü" * 1000, "a\nb", "\0\x1b", "x_bencher_ignore"])
def test_bencher_takes_any_name(tmp_path, test):
    records = [gate("no_recompiles", "a-bencher-ignore", test=test, recompiles=1)]
    write_all(tmp_path / "r.jsonl", [*records, gate("x", test=test + "2", metrics={"ß?": [1, 2]})])
    main(["export", str(tmp_path / "r.jsonl"), "--format=bencher", "-o", str(tmp_path / "o")])
    assert len(as_bencher_reads((tmp_path / "o").read_text())) == 2


# --- github-action-benchmark: what `extract.ts` and `write.ts` of the action do (c38cce98)


def as_action_reads(text):
    """An array of entries; zod coerces each field, so null would be 0 and an absent name NaN's."""
    entries = json.loads(text, parse_constant=pytest.fail)
    assert isinstance(entries, list) and entries  # "No benchmark result was found" otherwise
    for entry in entries:
        assert {"name", "unit", "value"} <= set(entry)
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert all(type(entry[name]) is str for name in set(entry) - {"value"})
        assert type(entry["value"]) in (int, float) and math.isfinite(entry["value"])
        assert not re.search(r"[`|\n\r]", entry["name"])  # stands between backticks in a table
        # A unit of time would be converted to that of the last run.
        assert entry["unit"].strip().lower() not in ("s", "ms", "us", "ns") or "_s" in entry["name"]
        # Only "± 3" is taken apart as a number; what else stands there is shown.
        assert not re.search(r"(\+-|±)\s*\d", entry.get("range", ""))
    names = [entry["name"] for entry in entries]
    assert len(names) == len(set(names))  # the first of a name is the one that is compared
    return {entry["name"]: entry for entry in entries}


def test_the_action_reads_both_files(export, tmp_path):
    said = export("github-action-benchmark")
    assert "out.bigger.json" in said and "out.smaller.json" in said
    assert not (tmp_path / "out.json").exists()
    bigger = as_action_reads((tmp_path / "out.bigger.json").read_text(encoding="utf-8"))
    assert bigger[f"{TEST} (compile): {CLAIM}: ratio"] == {
        "name": f"{TEST} (compile): {CLAIM}: ratio",
        **{"unit": "×", "value": 2.0, "range": "[1.900, ∞]"},
        "extra": "verdict: PASS\nratio, higher is better",
    }
    assert len(bigger) == 2
    smaller = as_action_reads((tmp_path / "out.smaller.json").read_text(encoding="utf-8"))
    assert smaller[f"{TEST} (compile): no_graph_breaks: breaks"]["value"] == 2
    assert len(smaller) == 7


def test_a_file_that_would_be_empty_is_not_left_from_before(tmp_path, capsys):
    write_all(tmp_path / "r.jsonl", [SPEEDUP])
    (tmp_path / "o.smaller.json").write_text("[of another session]")
    words = ["export", str(tmp_path / "r.jsonl"), "--format=github-action-benchmark"]
    assert main([*words, "-o", str(tmp_path / "o.json")]) == 0
    assert not (tmp_path / "o.smaller.json").exists()
    assert "o.smaller.json: not written, since it would be empty" in capsys.readouterr().err
    assert main(words) == 2
    assert "writes 2 files; name them with -o" in capsys.readouterr().err


def test_a_name_cannot_leave_its_cell(tmp_path):
    records = [gate("no_recompiles", test="a`b|c\nd", recompiles=1)]
    write_all(tmp_path / "r.jsonl", records)
    words = ["export", str(tmp_path / "r.jsonl"), "--format=github-action-benchmark"]
    main([*words, "-o", str(tmp_path / "o.json")])
    assert list(as_action_reads((tmp_path / "o.smaller.json").read_text(encoding="utf-8"))) == [
        "a'b¦c d (compile): no_recompiles: recompiles"
    ]


# --- JSON lines, and the command


def test_json_lines_carry_commit_and_machine(export, capsys):
    main_said = export("jsonlines")
    assert "2 gates have no figure" in main_said
    assert "NOT_APPLICABLE" in main_said and "max_compile_time" in main_said


def test_without_an_output_it_goes_to_the_terminal(records, capsys):
    assert main(["export", str(records), "--format=jsonlines"]) == 0
    first, *others = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["commit"] == "0123abc" and first["machine"] == "m" and first["name"] == "breaks"
    assert len(others) == 8


def test_a_format_that_is_not_there(records, capsys):
    assert main(["export", str(records), "--format", "bencer"]) == 2
    assert capsys.readouterr().err == (
        "diffspeed: --format: no format is called 'bencer'; did you mean 'bencher'? Valid: "
        "bencher, github-action-benchmark, jsonlines, pytest-benchmark.\n"
    )


def test_a_place_that_cannot_be_written(records, tmp_path, capsys):
    words = ["export", str(records), "--format=bencher", "-o", str(tmp_path / "no" / "o.json")]
    assert main(words) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_killed_run_exports_its_pairs(tmp_path, capsys):
    write_all(tmp_path / "r.jsonl", [SESSION, pair(0, 2.0, 1.0), pair(1, 2.0, 1.0)])
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write('{"schema": "diffspeed/1", "ki')
    assert main(["export", str(tmp_path / "r.jsonl"), "--format=jsonlines"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["verdict"] == "INCONCLUSIVE"
    assert "1 line of" in shown.err


def test_every_format_is_documented(request):
    text = (request.config.rootpath / "docs" / "exports.md").read_text(encoding="utf-8")
    assert [name for name in formats() if f"`{name}`" not in text] == []


# --- JUnit


def test_properties_name_gate_and_figure():
    results = [g.result for g in recorded_session(RECORDS, None).gates]
    named = dict(properties(results))
    assert named["diffspeed.no_graph_breaks.verdict"] == "FAIL"
    assert named["diffspeed.no_graph_breaks.breaks"] == 2
    assert named["diffspeed.min_speedup[over fp32 per call].ratio"] == 2.0
    assert named["diffspeed.min_speedup[over fp32 per call].low"] == 1.9
    assert "diffspeed.min_speedup[over fp32 per call].high" not in named  # it is open
    assert named["diffspeed.min_speedup[over bf16 per call].verdict"] == "NOT_APPLICABLE"
    assert len(named) == len(properties(results))

"""Under pytest-xdist: one GPU a worker, one summary, one file of each kind, and crashes told."""

import re
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager

import pytest

from pytest_diffspeed.accelerators.registry import device_of_worker, numbered_devices
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.records.reader import read_journal
from tests.clocks import ONE_SECOND_A_CALL


@pytest.mark.parametrize(
    ("asked", "worker", "count", "device"),
    [
        ("auto", "gw0", 4, "cuda:0"),
        ("cuda", "gw3", 4, "cuda:3"),
        ("cuda", "gw4", 4, "cuda:0"),
        ("auto", "gw11", 8, "cuda:3"),
        # One GPU or none: nothing to deal out.
        ("auto", "gw1", 1, "auto"),
        ("auto", "gw1", 0, "auto"),
        ("cuda", "gw1", 1, "cuda"),
        # Asked for by name, or no worker of xdist.
        ("cuda:2", "gw0", 4, "cuda:2"),
        ("cpu", "gw1", 4, "cpu"),
        ("auto", None, 4, "auto"),
        ("auto", "master", 4, "auto"),
    ],
)
def test_each_worker_takes_a_gpu_in_turn(asked, worker, count, device):
    assert device_of_worker(asked, worker, {"cuda": count}) == device


def test_gpus_are_counted_where_torch_sees_some(monkeypatch, libraries):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert numbered_devices() == {"cuda": 3}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert numbered_devices() == {"cuda": 0}


COUNTED = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.no_graph_breaks()
    @pytest.mark.no_gpu_syncs()
    def test_counted(optimized_pipeline): ...
"""


def test_what_counts_waits_for_nobody_who_times(pytester, run_diffspeed, monkeypatch):
    def refuse(*words, **options):
        raise AssertionError("it asked for the device")

    monkeypatch.setattr("pytest_diffspeed.arms.session.device_lock", refuse)
    pytester.makepyfile(COUNTED)
    run_diffspeed().assert_outcomes(passed=1)


@pytest.mark.usefixtures("verbose")
def test_workers_that_build_keep_nobody_from_timing(pytester, run_diffspeed, monkeypatch):
    """They may build for minutes, as this process may, which holds no lock meanwhile either."""
    held = []

    @contextmanager
    def lock(*words, **options):
        held.append(True)
        try:
            yield
        finally:
            held.pop()

    def build(*words):
        raise MeasurementError("built under the lock" if held else "built beside others")

    monkeypatch.setattr("pytest_diffspeed.arms.session.device_lock", lock)
    monkeypatch.setattr("pytest_diffspeed.arms.workers.worker_arms", build)
    pytester.makepyfile(COUNTED.replace("no_graph_breaks()", "max_slowdown(5)"))
    result = run_diffspeed("--diffspeed-instances=2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*max_slowdown over fp32 per call could not be checked: built be*"]
    )


TIMED = """
    import os

    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup({})
    @pytest.mark.no_gpu_syncs()
    def test_{}(optimized_pipeline):
        {}
"""


@pytest.mark.slow
def test_a_worker_that_crashes_costs_the_others_nothing(pytester, private_temp, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    pytester.makeconftest(ONE_SECOND_A_CALL)
    pytester.makepyfile(
        test_crashing=TIMED.format(0.5, "crashes", "os._exit(3)"),
        test_passing=TIMED.format(0.5, "passes", "pass"),
        test_slow=TIMED.format(50, "fails", "pass"),
    )
    result = pytester.runpytest_subprocess(
        *("-n", "2", "--diffspeed", "--diffspeed-device=cpu", "--diffspeed-steps=1"),
        *("--diffspeed-pipeline=random:sdxl-tiny", "--junitxml=junit.xml"),
        *("--diffspeed-json=r.jsonl", "--diffspeed-markdown=report.md"),
    )
    result.assert_outcomes(passed=1, failed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED

    # One block, with what both workers found and what one took with it.
    assert len([line for line in result.outlines if re.match(r"=+ diffspeed: .* =+$", line)]) == 1
    crashed = "test_crashing.py::test_crashes[channels_last]"
    why = "the worker process that ran this test crashed"
    place = result.outlines.index(f"CRASHED        {crashed}")
    assert result.outlines[place + 1].strip() == why
    assert "SPEED          test_slow.py::test_fails[channels_last]" in result.outlines
    assert "green: 1 test, 2 gates PASS" in result.outlines
    annotations = [line for line in result.outlines if line.startswith("::")]
    (died,) = (line for line in annotations if "diffspeed test failed" in line)
    assert f"{why}%0Anext: " in died
    (annotation,) = (line for line in annotations if line != died)
    assert annotation.startswith("::error file=test_slow.py,line=")

    # One file of each kind, written by the controller.
    told = read_journal(pytester.path / "r.jsonl")
    assert told.left_out == 0
    assert {test["test"]: test["outcome"] for test in told.tests} == {
        crashed: "failed",
        "test_passing.py::test_passes[channels_last]": "passed",
        "test_slow.py::test_fails[channels_last]": "failed",
    }
    assert {(lost["test"], lost["reason"]) for lost in told.not_run} == {(crashed, why)}
    assert sorted(len(gate.pairs) for gate in told.gates) == [0, 0, 5, 5]
    report = (pytester.path / "report.md").read_text(encoding="utf-8")
    assert report.count("## diffspeed: 1 FAIL, 3 PASS") == 1
    assert why in report
    properties = {
        case.get("name"): {p.get("name"): p.get("value") for p in case.iter("property")}
        for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    }
    assert (
        properties["test_fails[channels_last]"]["diffspeed.min_speedup[over fp32 per call].verdict"]
        == "FAIL"
    )
    assert (
        properties["test_passes[channels_last]"]["diffspeed.min_speedup[over fp32 per call].ratio"]
        == "1.0"
    )

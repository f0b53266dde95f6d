"""Under pytest-xdist: one GPU a worker, one summary, one file of each kind, and crashes told."""

import os
import re
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager

import pytest

from pytest_diffspeed.accelerators.registry import device_of_worker, numbered_devices
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.plugin.compile_pools import threads_of_worker
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


@pytest.mark.parametrize(
    ("workers", "cores", "threads"), [(2, 8, 4), (3, 8, 2), (8, 8, 1), (9, 8, 1), (1, 2, 2)]
)
def test_workers_share_the_cores_they_compile_with(workers, cores, threads):
    assert threads_of_worker(workers, cores) == threads


FAR = """
    import os

    import pytest

    @pytest.mark.diffspeed("fused_qkv", "bf16")
    @pytest.mark.min_speedup(0.5)
    def test_far(optimized_pipeline, diffspeed):
        assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "{threads}"
"""


@pytest.mark.slow
def test_a_gateway_in_another_folder_loses_nothing(pytester, tmp_path, monkeypatch):
    """As on another machine: a tree of its own, in which the controller finds no file."""
    monkeypatch.delenv("TORCHINDUCTOR_COMPILE_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pytester.makeconftest(ONE_SECOND_A_CALL)
    pytester.makeini("[pytest]")  # the root of both, so that tests have one name
    pytester.makepyfile(test_far=FAR.format(threads=max(1, cores // 2)))
    (pytester.path / "out").mkdir()  # which the other folder has not
    (tmp_path / "far").mkdir()
    words = [
        *("--tx=popen", f"--tx=popen//chdir={tmp_path / 'far'}", f"--rsyncdir={pytester.path}"),
        *("--dist=load", "--max-worker-restart=0", str(pytester.path / "test_far.py")),
        *("--diffspeed", "--diffspeed-device=cpu", "--diffspeed-steps=1"),
        *("--diffspeed-pipeline=random:sdxl-tiny", "--diffspeed-store=none"),
        *("--diffspeed-json=out/r.jsonl", "--diffspeed-html=out/r.html"),
    ]
    result = pytester.runpytest_subprocess(*words)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["diffspeed: 2 workers share * cores, so each compiles with *"])
    told = read_journal(pytester.path / "out" / "r.jsonl")
    assert sorted(gate.result.stack for gate in told.gates) == ["bf16", "fused_qkv"]
    assert told.end["exit_status"] == 0
    # Both ran: one here, one there; the pictures of both are here, and in the report.
    assert len(list((tmp_path / "far").rglob("records/*.jsonl"))) == 1
    pictures = [image for test in told.tests for image in test["images"]]
    assert len(pictures) >= 2 and all((pytester.path / image).is_file() for image in pictures)
    html = (pytester.path / "out" / "r.html").read_text(encoding="utf-8")
    assert html.count("<img ") >= 2 and "Not shown" not in html
    # Counts would be saved there, and lost.
    refused = pytester.runpytest_subprocess(*words, "--diffspeed-save-counts")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*its counts would stay there*"])

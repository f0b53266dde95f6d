"""Whole sessions: what passes, fails, skips and is said, and what is left on the disk.

Most sessions use the clock on which all arms are equally fast, so each verdict is known before.
"""

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.gates.catalog.speedup import MaxSlowdown, MinSpeedup
from pytest_diffspeed.gates.selection import select
from pytest_diffspeed.history.series import series_of
from pytest_diffspeed.records.journal import SCHEMA
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.catalog.layout import ChannelsLast
from pytest_diffspeed.techniques.catalog.precision import Bf16
from pytest_diffspeed.techniques.stacks import parse_stack
from tests.clocks import ONE_SECOND_A_CALL, SHORT_NOISE_FLOOR
from tests.journals import journaled, records_in

ONE_TEST = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    {}
    def test_it(optimized_pipeline): ...
"""


@pytest.fixture
def one_test(pytester):
    """Write a module with one test and these markers, one a line."""

    def write(*markers, name="test_mine"):
        lines = "\n    ".join(f"@pytest.mark.{marker}" for marker in markers)
        return pytester.makepyfile(**{name: ONE_TEST.format(lines)})

    return write


def block(result):
    """The lines of our block at the end of the terminal's output."""
    lines = result.outlines
    start = max(i for i, line in enumerate(lines) if re.match(r"=+ diffspeed =+$", line))
    return list(itertools.takewhile(lambda line: not line.startswith("==="), lines[start + 1 :]))


# --- without --diffspeed


def test_without_the_option_our_tests_are_skipped_and_others_run(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("bf16", "compile")
        @pytest.mark.min_speedup(2)
        def test_marked(optimized_pipeline): assert False

        @pytest.mark.diffspeed("bf16")
        class TestClass:
            def test_marked(self, technique): assert False

        def test_baseline(baseline_pipeline): assert False

        def test_handle(diffspeed): assert False

        def test_late(request):
            request.getfixturevalue("baseline_pipeline")
            assert False

        def test_late_handle(request):
            request.getfixturevalue("diffspeed")
            assert False

        def test_plain(): pass
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(passed=1, skipped=7)
    assert result.ret == 0
    skipped = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert skipped
    assert all(line.endswith("needs --diffspeed") for line in skipped)
    assert not (pytester.path / ".diffspeed").exists()
    result.stdout.no_fnmatch_line("*= diffspeed*=*")


# --- gates pass and fail in the call phase

VERDICTS = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup(0.5)
    def test_passes(optimized_pipeline): ...

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup(50)
    def test_fails(optimized_pipeline): ...

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.max_slowdown(100)
    @pytest.mark.min_speedup(50)
    @pytest.mark.min_speedup(0.5, over="bf16")
    def test_several(optimized_pipeline): ...

    @pytest.mark.xfail(reason="not fast yet")
    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup(50)
    def test_expected_to_fail(optimized_pipeline): ...

    @pytest.mark.xfail(strict=True, reason="not fast yet")
    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup(0.5)
    def test_fast_by_now(optimized_pipeline): ...

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup(0.5)
    @pytest.mark.max_slowdown(5)
    def test_body_raises(optimized_pipeline): assert 1 == 2, "the body's own words"

    @pytest.mark.diffspeed("channels_last")
    def test_without_gates(optimized_pipeline): ...

    def test_baseline_only(baseline_pipeline): ...
"""


def test_outcomes_reports_and_records(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(test_mine=VERDICTS)
    result = run_diffspeed("--junitxml=junit.xml", "--diffspeed-json=gates.jsonl", "-v")

    # What pytest counts: a failing gate is a failure, never an error.
    result.assert_outcomes(passed=3, failed=4, xfailed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    suite = ElementTree.parse(pytester.path / "junit.xml").getroot().find("testsuite")
    assert (suite.get("failures"), suite.get("errors")) == ("4", "0")
    cases = {case.get("name").partition("[")[0]: case for case in suite.iter("testcase")}
    failure = cases["test_fails"].find("failure")
    assert failure.text.startswith("FAIL ")
    assert "min_speedup over fp32 per call" in failure.text
    assert "need ≥ 50×" in failure.text

    # What each gate found stands on its test, for whatever reads JUnit's XML.
    told = {p.get("name"): p.get("value") for p in cases["test_fails"].iter("property")}
    assert told["diffspeed.min_speedup[over fp32 per call].verdict"] == "FAIL"
    assert float(told["diffspeed.min_speedup[over fp32 per call].ratio"]) == 1.0
    assert float(told["diffspeed.min_speedup[over fp32 per call].low"]) <= 1.0
    several = {p.get("name") for p in cases["test_several"].iter("property")}
    assert "diffspeed.min_speedup[over bf16 per call].ratio" in several
    assert "diffspeed.max_slowdown[over fp32 per call].verdict" in several

    # A body that raises wins; its gates are not run.
    assert "the body's own words" in cases["test_body_raises"].find("failure").text
    lines = block(result)
    for claim in ("max_slowdown over fp32 per call", "min_speedup over fp32 per call"):
        place = lines.index(
            f"not run         test_mine.py::test_body_raises[channels_last]  {claim}"
        )
        assert "the body failed: " in lines[place + 1]
        assert "the body's own words" in lines[place + 1]

    # Each gate of a test is checked, whatever the others say, and failures come first.
    verdicts = [
        line for line in lines if re.match(r"(PASS|FAIL|INCONCLUSIVE|NOT_APPLICABLE) ", line)
    ]
    several = [line for line in verdicts if "::test_several[" in line]
    assert [(line.split()[0], " ".join(line.split()[2:7])) for line in several] == [
        ("FAIL", "min_speedup over fp32 per call"),
        ("PASS", "max_slowdown over fp32 per call"),
        ("PASS", "min_speedup over bf16 per call"),
    ]
    kinds = [line.split()[0] for line in verdicts]
    assert kinds == ["FAIL"] * 2 + ["PASS"] * 4
    (expected,) = (line for line in lines if line.startswith("xfailed "))
    assert "::test_expected_to_fail[" in expected
    assert any("1.000× [" in line and "(measured)" in line for line in lines)
    assert (
        "again, this one only: pytest --diffspeed --diffspeed-device=cpu "
        "--diffspeed-pipeline=random:sdxl-tiny --diffspeed-steps=1 "
        "'test_mine.py::test_fails[channels_last]'" in lines
    )
    assert "records: gates.jsonl" in lines

    # The file of --diffspeed-json holds the session, and what each test measured and found.
    whole = records_in(pytester.path / "gates.jsonl")
    assert {record["schema"] for record in whole} == {SCHEMA}
    assert whole[0]["kind"] == "session"
    assert whole[0]["machine"] and whole[0]["environment"]["device"] == whole[0]["device"]["name"]
    gates = records_in(pytester.path / "gates.jsonl", "gate")
    assert len(gates) == 7
    told = read_journal(pytester.path / "gates.jsonl")
    outcomes = {test["test"].partition("[")[0]: test["outcome"] for test in told.tests}
    assert outcomes["test_mine.py::test_fails"] == "failed"
    assert outcomes["test_mine.py::test_expected_to_fail"] == "skipped"  # xfail, in pytest's words
    assert set(outcomes.values()) == {"passed", "failed", "skipped"}
    assert told.not_run[0]["test"] == "test_mine.py::test_body_raises[channels_last]"
    assert {test["file"] for test in told.tests} == {"test_mine.py"}
    assert [len(gate.pairs) for gate in told.gates] == [gate["figures"]["pairs"] for gate in gates]
    assert {proof["stack"] for proof in told.proofs} == {"channels_last", "bf16"}
    failed = next(
        gate for gate in gates if gate["test"] == "test_mine.py::test_fails[channels_last]"
    )
    assert failed["gate"] == "min_speedup"
    assert failed["claim"] == "min_speedup over fp32 per call"
    assert failed["stack"] == "channels_last"
    assert failed["verdict"] == "FAIL"
    assert failed["evidence"] == "measured"
    assert failed["blocking"] is True
    (figures,) = (g.result.figures for g in told.gates if g.result.test == failed["test"])
    assert (figures["over"], figures["need"], figures["ratio"]) == ("fp32", 50.0, 1.0)
    assert figures["pairs"] >= 5
    assert figures["instances"] == 1
    assert figures["low"] <= 1.0 <= figures["high"]

    # The journal has each pair before the verdict that rests on it, and proofs of all arms.
    found = journaled(pytester)
    assert {record["schema"] for record in found} == {SCHEMA}
    assert {r["stack"] for r in found if r["kind"] == "proof"} == {"fp32", "channels_last", "bf16"}
    for gate in gates:
        own = [
            record
            for record in found
            if record.get("test") == gate["test"] and record.get("claim") == gate["claim"]
        ]
        kinds = [record["kind"] for record in own]
        pairs = gate["figures"]["pairs"]
        assert kinds == ["gate-start", *["pair"] * pairs, "gate", "stages"]
        assert [r["index"] for r in own if r["kind"] == "pair"] == list(range(pairs))
        assert {key: own[-2][key] for key in gate} == gate
    stages = {r["test"]: r["stages"] for r in found if r["kind"] == "stages"}
    assert {g.result.test: g.result.figures["stages"] for g in told.gates} == stages

    # Pictures, for the tests whose arms drew images, and nothing that git would see.
    pictures = [line.strip() for line in lines if line.strip().endswith(".png")]
    assert len(pictures) == len(set(pictures)) >= 1
    for picture in pictures:
        assert (pytester.path / picture).read_bytes().startswith(b"\x89PNG")
    assert (pytester.path / ".diffspeed" / ".gitignore").read_text().splitlines()[-1] == "*"


def test_gitignore_is_there_as_soon_as_the_folder_is(pytester, run_diffspeed):
    pytester.makepyfile("def test_baseline(baseline_pipeline): ...")
    run_diffspeed().assert_outcomes(passed=1)
    kinds = [record["kind"] for record in journaled(pytester)]
    assert kinds == ["session", "asked", "proof", "end"]
    assert (pytester.path / ".diffspeed" / ".gitignore").read_text().splitlines()[-1] == "*"


def test_last_failed_runs_a_failed_gate_again(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("channels_last", "fp32")
        @pytest.mark.min_speedup(0.5)
        @pytest.mark.min_speedup(50, stack="channels_last")
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed().assert_outcomes(passed=1, failed=1)
    again = run_diffspeed("--lf", "-v")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*::test_it[[]channels_last] FAILED*"])


def test_the_real_clock(pytester, run_diffspeed, short_noise_floor):
    """No arm of this pipeline is fifty times as fast or slow as another."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(50)
        def test_fails(optimized_pipeline): ...

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.02)
        def test_passes(optimized_pipeline): ...
        """
    )
    run_diffspeed("--diffspeed-budget=60").assert_outcomes(passed=1, failed=1)
    pairs = journaled(pytester, "pair")
    assert len(pairs) == 10  # five of the same sign decide
    assert all(pair["baseline_s"] > 0 and pair["candidate_s"] > 0 for pair in pairs)
    assert len({pair["baseline_s"] for pair in pairs}) > 1


# --- INCONCLUSIVE

AT_THE_THRESHOLD = """
    import pytest

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.min_speedup(1)
    def test_speedup(optimized_pipeline): ...

    @pytest.mark.diffspeed("channels_last")
    @pytest.mark.max_slowdown(0)
    def test_slowdown(optimized_pipeline): ...
"""


@pytest.fixture
def brief_budget(monkeypatch):
    """The automatic budget ends after a fraction of a second of real time."""
    monkeypatch.setattr("pytest_diffspeed.timing.budget.AUTO_BUDGET_S", 0.3)
    monkeypatch.setattr("pytest_diffspeed.timing.budget.AUTO_PAIRS", 0.3)
    monkeypatch.setattr("pytest_diffspeed.timing.budget.Projection.is_impossible", False)


@pytest.mark.usefixtures("verbose")
@pytest.mark.parametrize(
    ("words", "outcomes"),
    [
        ((), {"failed": 1, "passed": 1}),
        (("--diffspeed-inconclusive=fail",), {"failed": 2}),
        (("--diffspeed-inconclusive=warn",), {"passed": 2}),
        (("--diffspeed-inconclusive=skip",), {"skipped": 2}),
    ],
    ids=["own", "fail", "warn", "skip"],
)
def test_inconclusive(pytester, run_diffspeed, constant_clock, brief_budget, words, outcomes):
    """Both thresholds are the very ratio, so no number of pairs decides."""
    pytester.makepyfile(test_mine=AT_THE_THRESHOLD)
    result = run_diffspeed("-rs", *words)
    result.assert_outcomes(**outcomes)
    lines = block(result)
    assert [line.split()[:2] for line in lines if line.startswith("INCONCLUSIVE")] == [
        ["INCONCLUSIVE", "test_mine.py::test_speedup[channels_last]"],
        ["INCONCLUSIVE", "test_mine.py::test_slowdown[channels_last]"],
    ]
    if "skipped" in outcomes:
        result.stdout.fnmatch_lines(["SKIPPED*INCONCLUSIVE: *"])


@pytest.mark.usefixtures("verbose")
@pytest.mark.parametrize("policy", ["fail", "warn", "skip"])
def test_a_gate_without_pairs_fails_whatever_the_policy(
    pytester, run_diffspeed, constant_clock, policy
):
    pytester.makepyfile(test_mine=AT_THE_THRESHOLD)
    result = run_diffspeed("--diffspeed-budget=5", f"--diffspeed-inconclusive={policy}")
    result.assert_outcomes(failed=2)
    # A pair takes two seconds on this clock.
    reason = (
        "a budget of 5 s holds 2 pairs of 2 s and no verdict is possible with fewer than 5; use "
        "--diffspeed-budget=21 or more"
    )
    assert sum(reason in line for line in block(result)) == 2


@pytest.mark.usefixtures("verbose")
def test_a_failing_gate_wins_over_a_skip(pytester, run_diffspeed, constant_clock, brief_budget):
    """One gate fails and the other stays undecided: its threshold is the very ratio."""
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(1)
        @pytest.mark.min_speedup(50, over="bf16")
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed("--diffspeed-inconclusive=skip")
    result.assert_outcomes(failed=1)
    assert [line.split()[0] for line in block(result) if "::test_it[" in line][:2] == [
        "FAIL",
        "INCONCLUSIVE",
    ]


# --- which gates hold

CPU = Device("cpu", None, "AMD EPYC 9654, 8 cores", "cpu")
GPU = Device("cuda", 0, "NVIDIA H100 80GB HBM3", "cuda-1")


def speedup(ratio, *, over="fp32", stack=None, device=None):
    return MinSpeedup.from_arguments(ratio, over=over, stack=stack, device=device)


@pytest.mark.parametrize(
    ("markers", "stack", "device", "held"),
    [
        # Of equals the closest, which comes first.
        ([speedup(3), speedup(2)], "bf16", CPU, [3]),
        # stack= beats none, whatever the distance.
        ([speedup(3), speedup(2, stack="bf16")], "bf16", CPU, [2]),
        ([speedup(3), speedup(2, stack="bf16")], "compile", CPU, [3]),
        # device= beats none, and a name beats a kind.
        ([speedup(3), speedup(2, device="cuda")], "bf16", GPU, [2]),
        ([speedup(3), speedup(2, device="cuda")], "bf16", CPU, [3]),
        ([speedup(3, device="cuda"), speedup(2, device="*H100*")], "bf16", GPU, [2]),
        ([speedup(3, device="cuda"), speedup(2, device="cuda:0")], "bf16", GPU, [2]),
        ([speedup(3, device="cuda"), speedup(2, device="cuda:1")], "bf16", GPU, [3]),
        ([speedup(3, device="cpu"), speedup(2, device="amd epyc*")], "bf16", CPU, [2]),
        # stack= counts more than device=; both count most.
        ([speedup(3, device="*H100*"), speedup(2, stack="bf16")], "bf16", GPU, [2]),
        ([speedup(3, stack="bf16"), speedup(2, stack="bf16", device="cuda")], "bf16", GPU, [2]),
        # However the stack was written.
        ([speedup(2, stack="compile+bf16")], "bf16+compile", CPU, [2]),
        # None holds.
        ([speedup(3, device="cuda"), speedup(2, stack="fp32")], "bf16", CPU, []),
        ([speedup(3, device="*A100*")], "bf16", GPU, []),
    ],
)
def test_the_most_specific_marker_holds_then_the_closest(markers, stack, device, held):
    holding, without = select(markers, parse_stack(stack), device)
    assert [marker.ratio for marker in holding] == held
    assert without == ([] if held else [markers[0]])


def test_markers_with_other_claims_do_not_compete():
    markers = [
        speedup(2),
        speedup(3, over="bf16"),
        speedup(4, over="previous", device="cuda"),
        MaxSlowdown.from_arguments(5),
        speedup(5, over="bf16", stack="compile"),
    ]
    holding, without = select(markers, parse_stack("compile"), CPU)
    assert holding == [markers[0], markers[4], markers[3]]
    assert without == [markers[2]]


def test_stack_and_device_in_a_session(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.min_speedup(50)
        class TestSpeed:
            @pytest.mark.diffspeed("channels_last", "bf16", "bf16+channels_last")
            @pytest.mark.min_speedup(0.5, stack="bf16")
            @pytest.mark.min_speedup(0.4, stack="channels_last", device="cpu")
            @pytest.mark.min_speedup(60, stack="channels_last", device="cuda")
            @pytest.mark.max_slowdown(100, device="cuda")
            def test_it(self, optimized_pipeline): ...
        """
    )
    result = run_diffspeed("--diffspeed-json=gates.jsonl", "-v")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*::test_it[[]bf16+channels_last] FAILED*"])
    found = {
        (gate["stack"], gate["gate"]): (gate["verdict"], gate["figures"].get("need"))
        for gate in records_in(pytester.path / "gates.jsonl", "gate")
    }
    assert found == {
        ("channels_last", "min_speedup"): ("PASS", 0.4),
        ("bf16", "min_speedup"): ("PASS", 0.5),
        ("bf16+channels_last", "min_speedup"): ("FAIL", 50.0),
        **{
            (s, "max_slowdown"): ("NOT_APPLICABLE", None)
            for s in ("channels_last", "bf16", "bf16+channels_last")
        },
    }
    lines = block(result)
    assert any(
        re.search(r"its markers are for another stack or device than bf16 on .*core", line)
        for line in lines
    )
    # A looser marker in the place of a stricter one says so; what it replaces did not hold here.
    replaced = [line.partition("; ")[0] for line in lines if "place of min_speedup(50)" in line]
    assert [line.split("need ")[1] for line in replaced] == ["≥ 0.4×", "≥ 0.5×"]
    assert not any("in the place of min_speedup(60" in line for line in lines)


def test_the_previous_stack(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("channels_last", "bf16")
        @pytest.mark.min_speedup(0.5, over="previous")
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed("--diffspeed-json=gates.jsonl").assert_outcomes(passed=2)
    over = {
        gate["stack"]: gate["figures"]["over"]
        for gate in records_in(pytester.path / "gates.jsonl", "gate")
    }
    assert over == {"channels_last": "fp32", "bf16": "channels_last"}


# --- sessions that checked nothing


def test_gates_without_any_verdict_fail_the_session(
    pytester, one_test, run_diffspeed, constant_clock
):
    one_test('min_speedup(2, device="cuda")', 'max_slowdown(5, device="NVIDIA*")')
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    lines = block(result)
    assert [line.split()[0] for line in lines[:4:2]] == ["NOT_APPLICABLE", "NOT_APPLICABLE"]
    assert (
        "2 gates were asked for and none reached a verdict, so this session fails: nothing was "
        "checked" in lines
    )


def test_one_verdict_is_enough(pytester, one_test, run_diffspeed, constant_clock):
    one_test('min_speedup(2, device="cuda")', "max_slowdown(100)")
    assert run_diffspeed().ret == pytest.ExitCode.OK


def test_tests_without_gates_need_no_verdict(pytester, one_test, run_diffspeed):
    one_test()
    result = run_diffspeed()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*none reached a verdict*")


def test_a_session_without_diffspeed_tests_says_how_to_start(pytester, run_diffspeed):
    pytester.makepyfile("def test_plain(): pass")
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    assert block(result) == [
        "no diffspeed test was collected; a first one is",
        "    @pytest.mark.diffspeed('compile')",
        "    @pytest.mark.min_speedup(1.1)",
        "    def test_speed(optimized_pipeline): ...",
    ]


def test_an_empty_session_says_how_to_start(pytester, run_diffspeed):
    result = run_diffspeed()
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["no diffspeed test was collected; a first one is"])


def test_a_session_that_stops_early_did_collect_diffspeed_tests(pytester, one_test, run_diffspeed):
    pytester.makepyfile(test_a="def test_stops(): assert False")
    one_test(name="test_b")
    result = run_diffspeed("-x")
    result.assert_outcomes(failed=1)
    result.stdout.no_fnmatch_line("no diffspeed test was collected*")


# --- stacks that cannot run


def test_missing_hardware_is_a_skip(pytester, run_diffspeed, constant_clock, monkeypatch):
    monkeypatch.setattr(
        Bf16, "missing_hardware", lambda self, device: "it cannot multiply bfloat16"
    )
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("bf16", "channels_last")
        @pytest.mark.min_speedup(0.5)
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed("-rs", "--diffspeed-json=gates.jsonl")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["SKIPPED*NOT_APPLICABLE: bf16 on *core*: it cannot multiply bfloat16"]
    )


def test_missing_hardware_everywhere_fails_the_session(
    pytester, one_test, run_diffspeed, monkeypatch
):
    monkeypatch.setattr(ChannelsLast, "missing_hardware", lambda self, device: "no such memory")
    one_test("min_speedup(2)")
    result = run_diffspeed()
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["1 gate was asked for and none reached a verdict*"])


def test_missing_hardware_of_the_other_stack_is_not_applicable(
    pytester, one_test, run_diffspeed, constant_clock, monkeypatch
):
    monkeypatch.setattr(
        Bf16, "missing_hardware", lambda self, device: "it cannot multiply bfloat16"
    )
    one_test("min_speedup(2, over='bf16')", "min_speedup(0.5)")
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    lines = block(result)
    assert lines[0].startswith("NOT_APPLICABLE  test_mine.py::test_it[channels_last]  min_speedup")
    assert lines[1].strip().startswith("bf16 on ")
    assert lines[1].endswith(": it cannot multiply bfloat16")


@pytest.mark.usefixtures("verbose")
def test_a_technique_that_does_not_fit_the_pipeline_is_an_error(
    pytester, one_test, run_diffspeed, monkeypatch
):
    monkeypatch.setattr(ChannelsLast, "incompatible", lambda self, pipeline: "it has no image")
    one_test("min_speedup(2)")
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "channels_last is incompatible with StableDiffusionXLPipeline: it has no image; a "
            "skip would stay green forever, so name another stack or pipeline"
        ]
    )


@pytest.mark.usefixtures("verbose")
def test_a_technique_that_took_no_hold_is_an_error(pytester, one_test, run_diffspeed, monkeypatch):
    monkeypatch.setattr(ChannelsLast, "apply", lambda self, pipeline: None)
    one_test("min_speedup(2)")
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["channels_last: expected channels-last strides in all * weights, found other strides in *"]
    )


@pytest.mark.usefixtures("verbose")
def test_a_gate_that_cannot_be_checked_fails_its_test_and_the_others_run(
    pytester, one_test, run_diffspeed, constant_clock, monkeypatch
):
    monkeypatch.setattr(Bf16, "incompatible", lambda self, pipeline: "it has no weights")
    one_test("min_speedup(0.5)", "min_speedup(0.5, over='bf16')")
    result = run_diffspeed()
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert (
        "min_speedup over bf16 per call could not be checked: bf16 is incompatible with "
        "StableDiffusionXLPipeline: it has no weights" in text
    )
    lines = block(result)
    assert lines[0] == (
        "not checked     test_mine.py::test_it[channels_last]  min_speedup over bf16 per call"
    )
    assert lines[1].strip().startswith("bf16 is incompatible with StableDiffusionXLPipeline: ")
    assert any(line.startswith("PASS ") for line in lines)
    assert "gate-error" in {record["kind"] for record in journaled(pytester)}


def test_a_fixture_that_comes_too_late_for_its_stacks(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        def test_late(request):
            request.getfixturevalue("optimized_pipeline")
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["`optimized_pipeline` and `technique` must be arguments of *"])


# --- how often things are built


def test_each_arm_is_built_once_whatever_the_order_of_tests(pytester, run_diffspeed):
    module = """
        import pytest

        @pytest.mark.diffspeed("channels_last", "bf16", "fp32")
        def test_first(optimized_pipeline, technique, baseline_pipeline):
            assert (optimized_pipeline is baseline_pipeline) is (str(technique) == "fp32")

        def test_between(): ...

        @pytest.mark.parametrize("number", [1, 2])
        @pytest.mark.diffspeed("bf16", "channels_last")
        def test_second(optimized_pipeline, number): ...
    """
    pytester.makepyfile(test_a=module, test_b=module)
    result = run_diffspeed("-v", "-p", "no:randomly")
    result.assert_outcomes(passed=16)
    built = [
        match[1]
        for line in result.outlines
        if (match := re.match(r"diffspeed: building and proving (\S+) of \S+ …", line))
    ]
    assert sorted(built) == ["bf16", "channels_last", "fp32"]
    order = [
        match[1]
        for line in result.outlines
        if (
            match := re.match(
                r"test_[ab]\.py::test_\w+\[(?:\d-)?([a-z0-9_+]+)(?:-\d)?\] PASSED", line
            )
        )
    ]
    assert len(order) == 14
    assert len([stack for stack, _ in itertools.groupby(order)]) == 3


# --- other plugins and flags of pytest

BOTH = """
    import pytest

    @pytest.mark.diffspeed("{}")
    @pytest.mark.min_speedup(0.02)
    def test_{}(optimized_pipeline, diffspeed):
        diffspeed.run(optimized_pipeline)
"""
WORDS = (
    "--diffspeed",
    "--diffspeed-device=cpu",
    "--diffspeed-pipeline=random:sdxl-tiny",
    "--diffspeed-steps=1",
    "--diffspeed-json=gates.jsonl",
)


def test_warnings_as_errors_importlib_mode_and_no_cache(pytester, private_temp):
    """In a process of its own: what warns, warns while it is imported for the first time."""
    pytester.makeconftest(ONE_SECOND_A_CALL)
    pytester.makepyfile(test_mine=BOTH.format("bf16", "it"))
    result = pytester.runpytest_subprocess(
        "-W", "error", "--import-mode=importlib", "-p", "no:cacheprovider", *WORDS
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*warnings summary*")
    assert not (pytester.path / ".pytest_cache").exists()


LOGGED_CALLS = """
import json, os, time
from pathlib import Path

from pytest_diffspeed.accelerators.catalog.cpu import WallClock

def pytest_configure():
    time_one = WallClock.time

    def logged(self, call):
        started = time.monotonic()
        answer = time_one(self, call)
        line = json.dumps([os.getpid(), started, time.monotonic()])
        with open(Path(__file__).parent / f"calls-{os.getpid()}.jsonl", "a") as file:
            file.write(line + "\\n")
        return answer

    WallClock.time = logged
"""


def test_xdist(pytester, private_temp):
    pytester.makeconftest(LOGGED_CALLS + SHORT_NOISE_FLOOR)
    pytester.makepyfile(
        test_a=BOTH.format("channels_last", "a"), test_b=BOTH.format("channels_last", "b")
    )
    result = pytester.runpytest_subprocess("-n", "2", *WORDS)
    result.assert_outcomes(passed=2)
    assert result.ret == 0

    # One summary, with the results of both workers.
    assert len([line for line in result.outlines if re.match(r"=+ diffspeed =+$", line)]) == 1
    lines = block(result)
    assert sorted(line.split()[:2] for line in lines if line.startswith("PASS ")) == [
        ["PASS", "test_a.py::test_a[channels_last]"],
        ["PASS", "test_b.py::test_b[channels_last]"],
    ]
    gates = records_in(pytester.path / "gates.jsonl", "gate")
    assert sorted(gate["test"] for gate in gates) == [
        "test_a.py::test_a[channels_last]",
        "test_b.py::test_b[channels_last]",
    ]
    assert len(list((pytester.path / ".diffspeed" / "records").glob("*.jsonl"))) == 2

    # And one session in the history.
    assert len([line for line in result.outlines if line.startswith("history: 2 figures")]) == 1
    series = series_of("sqlite:///.diffspeed/history.sqlite", pytester.path)
    assert sorted(one.test for one in series) == sorted(gate["test"] for gate in gates)
    assert {len(one.points) for one in series} == {1}

    # Timing never runs beside timing: what one worker timed lies before what the other did.
    spans = []
    for path in pytester.path.glob("calls-*.jsonl"):
        calls = [json.loads(line) for line in path.read_text().splitlines()]
        spans.append((min(call[1] for call in calls), max(call[2] for call in calls)))
    first, second = sorted(spans)
    assert first[1] <= second[0]


def test_xdist_session_without_a_verdict_fails(pytester, run_diffspeed):
    pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.min_speedup(2)
        @pytest.mark.skip(reason="on holiday")
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed("-n", "1")
    result.assert_outcomes(skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["1 gate was asked for and none reached a verdict*"])


# --- what a review found: each of these was green


def test_a_marker_that_a_conftest_adds_is_checked(pytester, run_diffspeed, constant_clock):
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.min_speedup(50))
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed().assert_outcomes(failed=1)


def test_a_misspelt_marker_that_a_conftest_adds_is_a_usage_error(pytester, run_diffspeed):
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.min_speedup(ratoi=50))
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_it: min_speedup(*ratoi*did you mean 'ratio'*"])


def test_a_marker_added_while_the_test_runs_fails_it(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        def test_it(optimized_pipeline, request):
            request.node.add_marker(pytest.mark.min_speedup(50))
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a diffspeed marker was added while the test ran*"])


@pytest.mark.parametrize("stack", ["fp32", "channels_last"])
def test_a_gate_never_compares_a_stack_with_itself(pytester, run_diffspeed, constant_clock, stack):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.diffspeed("{stack}")
        @pytest.mark.max_slowdown(1, over="{stack}")
        def test_it(optimized_pipeline): ...
        """
    )
    result = run_diffspeed()
    result.stdout.fnmatch_lines([f"*it would compare {stack} with itself*"])
    assert result.ret != 0


@pytest.mark.usefixtures("verbose")
def test_a_factory_that_gives_the_same_object_twice_is_refused(
    pytester, run_diffspeed, monkeypatch
):
    pytester.makepyfile(
        mine="""
        from pytest_diffspeed.pipelines.sources import parse_source

        PIPELINE = parse_source("random:sdxl-tiny").build()

        def same():
            return PIPELINE
        """,
        test_it="""
        import pytest

        @pytest.mark.diffspeed("bf16")
        @pytest.mark.max_slowdown(25)
        def test_it(optimized_pipeline): ...
        """,
    )
    monkeypatch.syspath_prepend(pytester.path)
    result = run_diffspeed("--diffspeed-pipeline=mine:same")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*'mine:same' gives the same *bf16 would change the baseline*"])


@pytest.mark.usefixtures("verbose")
def test_a_body_that_changes_a_shared_pipeline_is_named(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(
        """
        import pytest, torch

        @pytest.mark.diffspeed("channels_last")
        def test_careless(optimized_pipeline):
            optimized_pipeline.unet.to(memory_format=torch.contiguous_format)

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.max_slowdown(25)
        def test_victim(optimized_pipeline): ...
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*no longer what was proven*changed unet*"])


def test_the_users_own_warnings_reach_the_user(pytester, run_diffspeed):
    pytester.makepyfile(
        """
        import pytest, warnings

        @pytest.mark.diffspeed("channels_last")
        def test_it(optimized_pipeline, baseline_pipeline):
            warnings.warn("the user's own")
        """
    )
    result = run_diffspeed("-W", "error")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*UserWarning: the user's own*"])


def test_fixtures_of_other_projects_with_our_names_are_left_alone(pytester):
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def technique():
            return "oil on canvas"
        """
    )
    pytester.makepyfile("def test_it(technique): assert technique == 'oil on canvas'")
    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_call_defaults_that_no_pipeline_can_be_called_with(pytester, run_diffspeed, monkeypatch):
    pytester.makepyfile(
        mine="""
        from pytest_diffspeed.pipelines.sources import parse_source

        def empty():
            return parse_source("random:sdxl-tiny").build()

        empty.call_defaults = {"prompts": []}

        def odd():
            return parse_source("random:sdxl-tiny").build()

        odd.call_defaults = {"height": 65}
        """,
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="mine:empty")
        def test_empty(optimized_pipeline): ...

        @pytest.mark.diffspeed("channels_last", pipeline="mine:odd")
        def test_odd(optimized_pipeline): ...
        """,
    )
    monkeypatch.syspath_prepend(pytester.path)
    result = run_diffspeed()
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        ["*'mine:empty': its `call_defaults` are invalid: prompts must be *"]
    )
    result.stdout.fnmatch_lines(["*'mine:odd' with fp32: the first call failed: ValueError*"])

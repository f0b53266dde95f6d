"""The zero-code suite: which rows it has, what they say, and what is left when it is stopped."""

import re
from types import SimpleNamespace

import pytest

from pytest_diffspeed.ladder.composed import composed_ratio
from pytest_diffspeed.ladder.measure import break_even
from pytest_diffspeed.ladder.progress import RowsLeft
from pytest_diffspeed.ladder.steps import (
    GUIDE,
    SCHEDULES,
    ResolvedStep,
    Step,
    climb,
    default_steps,
    steps_of,
)
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.reports.ladder import ladder_rows
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import parse_stack, parse_stacks
from tests.journals import journal_path, journaled

LADDER = ("--pyargs", "pytest_diffspeed.ladder")


def nothing_hinders(stack):
    return None


def names(resolved):
    return resolved.stack.name, None if resolved.previous is None else resolved.previous.name


def test_the_guide_is_climbed_in_its_order_and_then_each_technique_alone():
    steps = default_steps()
    resolved = [names(climb(steps, step, nothing_hinders)) for step in steps]
    cumulative = [n for n, step in zip(resolved, steps, strict=True) if step.adds is not None]
    assert cumulative == [
        ("bf16", None),
        ("bf16+channels_last", "bf16"),
        ("bf16+channels_last+compile", "bf16+channels_last"),
        ("bf16+channels_last+cpu_sigmas+compile", "bf16+channels_last+compile"),
        (
            "bf16+channels_last+int8_dynamic+cpu_sigmas+compile",
            "bf16+channels_last+cpu_sigmas+compile",
        ),
        (
            "bf16+channels_last+fused_qkv+int8_dynamic+cpu_sigmas+compile",
            "bf16+channels_last+int8_dynamic+cpu_sigmas+compile",
        ),
    ]
    alone = {stack for stack, _ in resolved if "+" not in stack}
    known = techniques().items()
    of_itself = {n for n, t in known if t.in_default_ladder and not (t.example or t.saves_memory)}
    assert alone == (of_itself - {"fp32"}) | {"steps(10)"}
    assert names(climb(steps, steps[-1], nothing_hinders)) == (SCHEDULES[-1], None)
    assert len({step.id for step in steps}) == len(steps)
    assert set(GUIDE) < set(techniques())


def test_what_cannot_run_is_a_row_and_left_out_of_the_steps_after_it():
    steps = default_steps()

    def why_not(stack):
        return "no such scheduler" if "cpu_sigmas" in stack.names else None

    by_id = {step.id: names(climb(steps, step, why_not)) for step in steps}
    assert by_id["+cpu_sigmas"][0] == "bf16+channels_last+cpu_sigmas+compile"
    assert by_id["+int8_dynamic"] == (
        "bf16+channels_last+int8_dynamic+compile",
        "bf16+channels_last+compile",
    )


def test_stacks_of_the_user_are_each_compared_with_the_one_before():
    steps = steps_of(parse_stacks("channels_last,fp32,bf16,bf16+compile"))
    assert [names(climb(steps, step, nothing_hinders)) for step in steps] == [
        ("channels_last", None),
        ("bf16", None),  # not built upon channels_last: a ratio of the two would say nothing
        ("bf16+compile", "bf16"),
    ]
    hindered = climb(steps, steps[2], lambda stack: "gone")
    assert names(hindered) == ("bf16+compile", None)
    assert steps[0] == Step(parse_stack("channels_last"))
    assert isinstance(hindered, ResolvedStep)


def ratio(value, verdict="PASS", pairs=24):
    return {
        "ratio": value,
        "low": value - 0.03,
        "high": value + 0.03,
        "verdict": verdict,
        "pairs": pairs,
    }


@pytest.mark.parametrize(
    ("verdict", "ratio", "images"),
    [
        ("PASS", 2.0, 10.0),  # 5 s more once, half a second of one saved an image
        ("INCONCLUSIVE", 1.02, None),
        ("INCONCLUSIVE", 0.99, None),
        ("FAIL", 0.8, None),
    ],
)
def test_break_even_never_contradicts_the_ratio(verdict, ratio, images):
    """The medians of the two arms may differ the other way than the pairs do."""
    assert break_even(verdict, ratio, baseline_s=1.0, compile_s=5.0) == images


def test_break_even_is_not_told_where_the_ratio_is_not():
    row = {"stack": "a", "over_baseline": ratio(0.99, "INCONCLUSIVE"), "call_s": 1.0}
    row |= {"first_call_s": 1.0, "break_even_images": 57.0}  # of an earlier version
    assert ladder_rows([row])[1].endswith("not told")


def test_the_table_tells_ratios_noise_first_calls_and_reasons():
    rows = [
        {
            "stack": "bf16",
            "over_baseline": ratio(0.72, "FAIL"),
            "call_s": 0.4127,
            "first_call_s": 0.5,
            "break_even_images": None,
            "proofs": {"bf16": "12 tensors in torch.bfloat16"},
        },
        {"stack": "tf32", "status": "missing hardware", "reason": "tf32 on this CPU: a GPU's mode"},
        {
            "stack": "bf16+compile",
            "over_baseline": ratio(1.4),
            "over_previous": ratio(1.005, "INCONCLUSIVE"),
            "call_s": 0.2,
            "first_call_s": 61.0,
            "break_even_images": 275.2,
            "known_slow": ["119.7 s an image (published)"],
        },
    ]
    assert [re.split(r"  +", line) for line in ladder_rows(rows)] == [
        ["stack", "over fp32", "over the step before", "a call", "first call", "break-even"],
        ["bf16", "0.720× [0.690, 0.750]", "0.413 s", "0.5 s", "never"],
        ["tf32", "not run: tf32 on this CPU: a GPU's mode"],
        [
            "bf16+compile",
            "1.400× [1.370, 1.430]",
            "1.005× [0.975, 1.035] ≈",
            "0.2 s",
            "61 s",
            "276 images",
        ],
        ["≈ cannot be told from 1 with this many pairs"],
        ["known to be slow: 119.7 s an image (published)"],
        [""],
        ["proofs:"],
        ["", "bf16: bf16: 12 tensors in torch.bfloat16"],
    ]
    rows[0]["peak_bytes"] = 3 * 2**29
    assert "peak memory" in ladder_rows(rows)[0]
    assert ladder_rows(rows)[1].endswith("1.5 GiB")
    assert ladder_rows([]) == []


def test_what_a_composed_call_is_without_is_named():
    row = {"stack": "bf16", "over_baseline": ratio(1.4), "call_s": 0.4, "first_call_s": 0.5}
    row |= {"composed": {"step": {"times": 20, **ratio(1.4)}}, "without": ["safety_checker"]}
    lines = ladder_rows([row])
    assert lines[lines.index("parts, timed alone:") + 1].endswith("]; without safety_checker")


def row_with(stack, images=None, **more):
    row = {"stack": stack, "over_baseline": ratio(1.4), "call_s": 0.4, "first_call_s": 0.5, **more}
    return row if images is None else {**row, "images": {"count": 3, "output": "image", **images}}


def test_the_worst_image_stands_beside_the_ratio():
    rows = [
        row_with("bf16", {"metric": "psnr", "worst": 48.24}),
        row_with("channels_last", {"metric": "psnr", "worst": 100.0}),
        row_with("fp16", {"broken": "image 1 (prompt 'fox', seed 0) has NaN values"}),
        row_with("steps(10)", why_no_images="steps(10) raised while it drew 'fox'"),
    ]
    head, *lines = ladder_rows(rows)
    assert re.split(r"  +", head)[:4] == [
        "stack",
        "over fp32",
        "worst image",
        "over the step before",
    ]
    cells = [re.split(r"  +", line)[2] for line in lines[:3]]
    assert cells == ["48.2 dB", "identical", "broken"]
    assert lines[4:] == [
        "worst image: PSNR to fp32's of the worst of 3 drawn (counted); of another schedule it may "
        "be as good and far from it",
        "    fp16: image 1 (prompt 'fox', seed 0) has NaN values",
        "no images: steps(10) raised while it drew 'fox'",
    ]
    assert "worst image" not in ladder_rows([row_with("bf16")])[0]


def test_a_row_draws_images_for_a_few_seconds(pytester, run_diffspeed, constant_clock, monkeypatch):
    """Six seconds a call by this clock: two images fit into twelve, and none into less."""
    from pytest_diffspeed.ladder import images

    monkeypatch.setattr(images, "BUDGET_S", 12.0)
    words = ["--diffspeed-pipeline=demo", "--diffspeed-steps=4", "--diffspeed-json=out.jsonl"]
    words += ["--diffspeed-techniques=channels_last,steps(3)"]
    result = run_diffspeed(*LADDER, *words)
    result.assert_outcomes(passed=2)
    same, other = (row["images"] for row in read_journal(pytester.path / "out.jsonl").ladder)
    assert (same["count"], same["worst"]) == (2, pytest.approx(100.0, abs=40.0))
    assert 10 < other["worst"] < 40
    assert other["worst"] == other["metrics"]["psnr"][1] <= other["mean"]
    assert "seed 0" in other["worst_case"]
    result.stdout.fnmatch_lines(["stack * over fp32 * worst image *", "steps(3) * dB *"])

    monkeypatch.setattr(images, "BUDGET_S", 11.0)
    result = run_diffspeed(*LADDER, *words[:-1], "--diffspeed-techniques=channels_last")
    (row,) = read_journal(pytester.path / "out.jsonl").ladder
    assert "images" not in row
    result.stdout.fnmatch_lines(["no images: a call of the baseline takes 6 s, *=full draws 8 *"])


def test_random_weights_draw_nothing_to_compare(pytester, run_diffspeed, constant_clock):
    result = run_diffspeed(*LADDER, "--diffspeed-techniques=channels_last")
    result.stdout.fnmatch_lines(["no images: image similarity on random weights *"])


def test_a_cheaper_schedule_is_left_out_where_it_is_none(pytester, run_diffspeed, constant_clock):
    result = run_diffspeed(*LADDER, "--diffspeed-steps=10", "-k", "steps and not scheduler")
    result.assert_outcomes(skipped=1, deselected=len(default_steps()) - 1)
    result.stdout.fnmatch_lines(
        ["steps(10)  not run: the baseline's calls have 10 steps, so 10 are not fewer"]
    )


def part(ratio, candidate_s, spread=0.0, coverage=0.97):
    return SimpleNamespace(
        ratio=ratio,
        low=ratio - spread,
        high=ratio + spread,
        candidate_s=candidate_s,
        coverage=coverage,
        pairs=8,
        noise=0.01,
        seed=3,
    )


def test_a_call_is_composed_of_its_parts_as_often_as_they_run():
    """20 steps of 0.1 s at 1.5×, and a second of decoding that stays what it was: 4 s ÷ 3 s."""
    found = composed_ratio([(20, 20, part(1.5, 0.1, 0.1)), (1, 1, part(1.0, 1.0, 0.05))])
    assert found["ratio"] == pytest.approx((20 * 0.15 + 1.0) / (20 * 0.1 + 1.0))
    assert found["baseline_s"] == pytest.approx(4.0)
    assert found["low"] == pytest.approx((20 * 0.14 + 0.95) / 3.0)
    assert found["high"] == pytest.approx((20 * 0.16 + 1.05) / 3.0)
    assert found["coverage"] == pytest.approx(0.94)
    assert (found["verdict"], found["pairs"]) == ("PASS", 16)
    assert composed_ratio([(1, 1, part(1.0, 1.0, 0.05))])["verdict"] == "INCONCLUSIVE"
    assert composed_ratio([(1, 1, part(0.9, 1.0, 0.05))])["verdict"] == "FAIL"


def test_each_arm_counts_its_own_steps():
    """20 steps of 0.15 s and a second of decoding, against 10 of 0.1 s and the same second."""
    found = composed_ratio([(20, 10, part(1.5, 0.1, 0.1)), (1, 1, part(1.0, 1.0, 0.05))])
    assert found["ratio"] == pytest.approx((20 * 0.15 + 1.0) / (10 * 0.1 + 1.0))
    assert found["baseline_s"] == pytest.approx(4.0)
    assert found["low"] == pytest.approx((20 * 0.14 + 0.95) / 2.0)


def test_a_row_with_fewer_steps_is_composed_of_them(pytester, run_diffspeed, constant_clock):
    result = run_diffspeed(
        *LADDER,
        "--diffspeed-techniques=channels_last,channels_last+steps(3)",
        "--diffspeed-steps=6",
        "--diffspeed-json=out.jsonl",
    )
    result.assert_outcomes(passed=2)
    before, row = read_journal(pytester.path / "out.jsonl").ladder
    assert before["call_s"] == pytest.approx(8.0)  # a second each: encoders, six steps, decoder
    assert row["call_s"] == pytest.approx(5.0)
    assert row["over_baseline"]["ratio"] == row["over_previous"]["ratio"] == pytest.approx(8 / 5)
    assert row["composed"]["denoiser"]["times"] == 3
    assert row["composed"]["denoiser"]["times_in_baseline"] == 6
    result.stdout.fnmatch_lines(
        [
            "    channels_last: encoder 1.000× *; 6 × step 1.000× *; decoder 1.000× *",
            "    channels_last+steps(3): encoder *; 3 × denoiser 1.000× * instead of 6 ×; *",
            "    channels_last+steps(3): steps: 3 steps ran in a call, 6 in the baseline's",
        ]
    )


def test_progress_says_which_row_it_is_and_how_long_the_rest_takes():
    left = RowsLeft(9, began=100.0)
    assert left.next_row(100.0) == "row 1 of 9"
    assert left.next_row(102.0) == "row 2 of 9, about 20 s left"
    assert left.next_row(140.0) == "row 3 of 9, about 2 min left"
    assert left.next_row(140.0) == "row 4 of 9, about 80 s left"


def test_the_quick_ladder_composes_a_call_and_says_so(pytester, run_diffspeed, constant_clock):
    result = run_diffspeed(
        *LADDER,
        "--diffspeed-techniques=channels_last",
        "--diffspeed-steps=4",
        "--diffspeed-json=out.jsonl",
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "diffspeed: channels_last: row 1 of 1",
            "channels_last  1.000× * ~6 s *",  # encoders, four steps, decoder: a second each
            "~ composed of the parts below, *--diffspeed-ladder=full times whole calls",
            "parts, timed alone:",
            "    channels_last: encoder 1.000× *; 4 × step 1.000× *; decoder 1.000× *",
        ]
    )
    (row,) = read_journal(pytester.path / "out.jsonl").ladder
    assert {name: part["times"] for name, part in row["composed"].items()} == {
        "encoder": 1,
        "step": 4,
        "decoder": 1,
    }
    assert row["call_s"] == row["over_baseline"]["baseline_s"] == pytest.approx(6.0)
    assert row["composed"]["step"]["pairs_of"] == "steps of calls in lockstep"


def test_the_quick_ladder_leaves_out_what_compiles(pytester, run_diffspeed, constant_clock):
    result = run_diffspeed(*LADDER, "-k", "test_ladder[+compile]")
    result.assert_outcomes(skipped=1, deselected=len(default_steps()) - 1)
    result.stdout.fnmatch_lines(["bf16+channels_last+compile  not run: it compiles, *=full"])


def test_the_ladder_runs_without_a_test_file(pytester, run_diffspeed, constant_clock):
    result = run_diffspeed(
        *LADDER,
        "--diffspeed-ladder=full",
        "--diffspeed-techniques=channels_last,tf32,bf16+channels_last,int8_dynamic",
        "--diffspeed-json=out.jsonl",
    )
    result.assert_outcomes(passed=2, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "*= diffspeed: the ladder =*",
            "stack * over fp32 * over the step before * a call * first call * break-even",
            "channels_last * 1.000× *",
            "tf32 * not run: tf32 on *",
            "bf16+channels_last *",
            "int8_dynamic * not run: int8_dynamic is incompatible with StableDiffusionXL*: *",
            "proofs:",
            "    channels_last: channels_last: * convolution weights in channels-last strides*",
        ]
    )
    written = read_journal(pytester.path / "out.jsonl")
    rows = written.ladder
    assert len(rows) == 4
    assert [row["status"] for row in rows] == [
        "measured",
        "missing hardware",
        "measured",
        "incompatible",
    ]
    assert rows[0]["environment"]["torch"]
    assert rows[2]["proof_figures"]["bf16"]["dtype"] == "torch.bfloat16"
    assert len(journaled(pytester, "ladder")) == 4
    assert {
        name: value for name, value in written.about.items() if name != "command"
    } == read_journal(journal_path(pytester)).about  # one session, and when it began


def test_a_proof_that_fails_is_a_red_row(pytester, run_diffspeed, constant_clock, monkeypatch):
    from pytest_diffspeed.techniques.catalog.layout import ChannelsLast

    monkeypatch.setattr(ChannelsLast, "apply", lambda self, pipeline: None)
    result = run_diffspeed(*LADDER, "--diffspeed-techniques=channels_last")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["channels_last  not run: channels_last: expected * found *"])


def test_a_ladder_that_the_user_stops_ends_with_its_table(pytester, private_temp, libraries):
    """The whole process: a real SIGINT in the middle of the second row."""
    import signal
    import subprocess
    import sys
    import time

    words = ["--diffspeed", *LADDER, "-p", "no:cacheprovider"]
    words += ["--diffspeed-pipeline=random:sdxl-tiny", "--diffspeed-steps=1"]
    words += ["--diffspeed-techniques=channels_last,bf16", "--diffspeed-budget=8"]
    words += ["--diffspeed-ladder=full"]
    program = (
        "import signal, sys, pytest\n"
        # A process that was started in the background ignores SIGINT, and so do its children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(pytest.main({words!r}))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=pytester.path, stdout=subprocess.PIPE, text=True
    ) as run:
        for line in run.stdout:
            if "timing bf16 over baseline" in line:
                time.sleep(0.5)  # a few rounds; whether there are any does not matter below
                run.send_signal(signal.SIGINT)
                break
        rest = run.stdout.read()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "diffspeed: the ladder" in rest
    table = rest.partition("over the step before")[2].splitlines()
    assert [line.split()[0] for line in table[1:3]] == ["channels_last", "bf16"]
    assert "stopped before the end: a row that was being timed shows the pairs so far" in rest


PLANTED = """
from pytest_diffspeed.common.errors import NotEffectiveError
from pytest_diffspeed.techniques.technique import Family, Proof
from pytest_diffspeed.techniques.catalog.layout import ChannelsLast

class Broken(ChannelsLast):
    # Takes hold in channels-last pipelines only.

    name = "broken"
    family = Family.CACHE

    def apply(self, pipeline):
        pass

    def prove(self, pipeline, seen):
        weight = pipeline.unet.conv_in.weight
        if weight.is_contiguous():
            raise NotEffectiveError("broken: planted")
        return Proof("broken", "it takes hold")

def pytest_diffspeed_techniques():
    return [Broken()]
"""


def test_a_step_before_that_cannot_be_built_is_not_this_rows_fault(
    pytester, run_diffspeed, constant_clock
):
    pytester.makeconftest(PLANTED)
    stacks = "--diffspeed-techniques=broken,channels_last"
    result = run_diffspeed(*LADDER, f"--confcutdir={pytester.path}", "-p", "conftest", stacks)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["broken * not run: broken: planted", "channels_last  1.000×*"])


def test_the_row_says_why_there_is_no_step_before(pytester, run_diffspeed, constant_clock):
    pytester.makeconftest(PLANTED)
    result = run_diffspeed(
        *LADDER,
        *("-p", "conftest", "-k", "channels_last"),
        "--diffspeed-techniques=broken,broken+channels_last",
    )
    result.assert_outcomes(passed=1, deselected=1)
    result.stdout.fnmatch_lines(["channels_last+broken *1.000×*", "*no step before: broken: *"])


def test_a_budget_that_holds_no_round_is_a_red_row_with_the_reason(
    pytester, run_diffspeed, constant_clock
):
    result = run_diffspeed(
        *LADDER, "--diffspeed-techniques=channels_last", "--diffspeed-budget=0.01"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["channels_last  not run: a budget of 0.01 s holds 0 pairs of 2 s*"]
    )


def test_a_ladder_of_the_baseline_alone_is_a_usage_error(pytester, run_diffspeed):
    result = run_diffspeed(*LADDER, "--diffspeed-techniques=fp32")
    assert result.ret != pytest.ExitCode.OK
    text = "\n".join([*result.outlines, *result.errlines])
    assert "names fp32 only, which every row of the ladder is compared with" in text


def test_a_row_that_cannot_be_timed_alone_is_timed_in_whole_calls_and_says_so(
    pytester, run_diffspeed, constant_clock
):
    words = (
        "--diffspeed-pipeline=tests.stateful_pipeline:build",
        "--diffspeed-techniques=channels_last",
    )
    result = run_diffspeed(*LADDER, *words)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "channels_last  1.000× * 1 s *",
            "*whole calls: denoiser keeps a state between calls (calls_so_far changed in one)",
        ]
    )


def test_an_unknown_way_to_climb_is_a_usage_error(pytester, run_diffspeed):
    result = run_diffspeed(*LADDER, "--diffspeed-ladder=fulll")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = "\n".join([*result.outlines, *result.errlines])
    assert "--diffspeed-ladder: does not know 'fulll'; did you mean 'full'?" in text

"""``diffspeed cost``: what it prints and writes, of a real count and of made-up ones."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from pytest_diffspeed.arms.gpu_cost.result import CountedCalls, GpuCost
from pytest_diffspeed.arms.gpu_cost.text import (
    WIDTH,
    bound_lines,
    difference_lines,
    table_lines,
)
from pytest_diffspeed.commands.cli import main
from pytest_diffspeed.commands.cost_resources import resource_lines
from pytest_diffspeed.commands.cost_time import at_most_lines, ratio_lines
from pytest_diffspeed.gpucost import ERRORS, Cost, Kernel, KernelResources
from tests.counting_gpu_cost import needs_counts

LINE = "a_folder/with_a_long_name/another_folder_with_a_long_name/the_models_attention.py:1234"
KEY = {"torch": "2.14.1", "triton": "3.8.0", "diffusers": "0.42.1"}
GEMM = Kernel("addmm", "gemm", 3_000_000, 2_000_000_000, "b16", (1, 4096, 640, 640), LINE)
FLASH = Kernel(
    "_scaled_dot_product_flash_attention",
    "attention",
    1_000_000,
    500_000_000,
    "b16",
    (2, 10, 4096, 64, 4096),
    "b.py:7",
    evidence="modelled",
)

CAST = Kernel("_to_copy", "cast", 40_000, shape=(10_000,), site="c.py:9")


def made(stack, *calls, steps=3):
    return GpuCost("demo", stack, "A GPU", steps, calls, KEY, ("guidance is not counted",))


def calls(component, steps, *kernels, number=None, role="denoiser", depth=""):
    cost = Cost(kernels=kernels)
    return CountedCalls(component, role, "eager", number or len(steps), steps, cost, depth)


PLAIN = made(
    "bf16",
    calls("text_encoder", (), GEMM, number=2, role="encoder"),
    calls("transformer", (0, 1, 2), GEMM, GEMM, FLASH),
    calls("vae.decode", (), CAST, number=1, role="decoder"),
)


def test_the_table_has_a_column_for_each_component_and_a_row_for_each_kind():
    lines = table_lines(PLAIN)
    assert lines[0] == "demo with bf16 on A GPU: one call, 3 steps"
    rows = {
        line[:24].strip(): line[24:].split()
        for line in lines[3:]
        if line[:1] != " " or "  " in line
    }
    assert lines[2].split() == ["text_encoder", "transformer,", "a", "step", "vae.decode"]
    assert rows["calls"] == ["2", "×", "eager", "1", "×", "eager", "1", "×", "eager"]
    assert rows["kernels"] == ["2", "3", "1"]
    assert rows["gemm"] == ["2", "2", "–"]
    assert rows["by flash (modelled)"] == ["–", "1", "–"]
    assert rows["bytes"] == ["6", "MB", "7", "MB", "40", "kB"]
    assert rows["b16"] == ["4", "G", "4.5", "G", "–"]
    assert "conv" not in rows
    assert "guidance is not counted" in lines


def test_the_costliest_lines_come_first_with_their_shares():
    lines = table_lines(PLAIN, most=1)
    at = lines.index("the costliest lines of step 3, by their share of bytes or FLOPs (1 of 2)")
    of_bytes, of_flops, kernels, place = lines[at + 2].split()
    assert (of_bytes, of_flops, kernels) == ("85.7%", "88.9%", "2")
    assert place.endswith("the_models_attention.py:1234")


def test_steps_that_differ_have_columns_of_their_own():
    other = calls("transformer", (0,), GEMM)
    cost = made("bf16", other, calls("transformer", (1, 2), GEMM, CAST))
    assert table_lines(cost)[2].split("  ")[-2:] == ["transformer, step 1", "transformer, step 2–3"]


def test_many_components_are_several_tables_and_no_line_is_too_long():
    names = [f"a_component_with_a_long_name_{number}" for number in range(9)]
    many = made("bf16", *(calls(name, (0, 1, 2), GEMM, FLASH) for name in names))
    shown = [*table_lines(many), *difference_lines(PLAIN, many)]
    assert all(f"{name}, a step" in "\n".join(shown) for name in names)
    assert max(map(len, shown)) <= WIDTH


def test_a_difference_is_told_by_figure_and_by_line():
    worse = made("bf16+x", calls("transformer", (0, 1, 2), GEMM, GEMM, GEMM, CAST))
    lines = difference_lines(PLAIN, worse)
    assert lines[0] == "from bf16 to bf16+x"
    text = "\n".join(lines)
    assert ["casts", "0", "1", "+1"] in [line.split() for line in lines]
    assert "+1    gemm addmm 1×4096×640×640" in text
    assert "c.py:9" in text
    assert "-1    attention _scaled_dot" in text
    assert "b.py:7" in text


def test_what_is_the_same_is_said_to_be():
    assert difference_lines(PLAIN, PLAIN)[1:] == [
        "",
        "step 3: the same kernels",
        "",
        "outside of the steps: the same kernels",
    ]


def test_a_denoiser_that_runs_once_more_has_a_column_of_its_own():
    steps = calls("transformer", (0, 1, 2), GEMM)
    cost = made("bf16", steps, calls("transformer", (), CAST, number=1))
    heads = table_lines(cost)[2]
    assert heads.split("  ")[-2:] == ["transformer, a step", "transformer, after the steps"]
    assert cost.outside.figures()["casts"] == 1


def test_stacks_with_other_steps_are_compared_by_their_last_one_and_by_the_call():
    fewer = made("bf16+x", calls("transformer", (0, 1), GEMM, CAST), steps=2)
    lines = difference_lines(PLAIN, fewer)
    assert lines[0] == "from bf16 to bf16+x: 3 steps before, 2 steps after"
    assert any(line.startswith("the last step ") for line in lines)
    assert any(line.startswith("the call ") for line in lines)


def test_launches_that_libraries_add_are_told_with_their_lines():
    around = replace(GEMM, hidden_launches=3, hidden_bytes=10)
    more = made("bf16", calls("transformer", (0, 1, 2), around, GEMM, FLASH))
    text = "\n".join(difference_lines(PLAIN, more))
    assert "  more launches that libraries add around\n  +3    gemm addmm" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--against", "bf61"), "no technique is called 'bf61'"),
        (("--stack", "bf61"), "no technique is called 'bf61'"),
        (("--gpu", "k80"), "'k80' is not a GPU known here"),
        (("--lines", "-3"), "--lines=-3: give a whole number of at least 1"),
        (("--steps", "0"), "--steps=0: give a whole number of at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_counted(capsys, words, sentence):
    assert main(["cost", "demo", *words]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert "counting" not in said


def test_a_typo_is_answered_without_torch():
    script = (
        "import sys; from pytest_diffspeed.commands.cli import main; status = main(); "
        "sys.exit(9 if 'torch' in sys.modules else status)"
    )
    for words in (("demo", "--gpu", "k80"), ("demo", "--stack", "bf61"), ("demoo",)):
        command = [sys.executable, "-c", script, "cost", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_an_interruption_is_a_line_and_no_traceback(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_diffspeed.commands.cost.run", interrupted)
    assert main(["cost", "demo"]) == 130
    assert capsys.readouterr().err == "diffspeed: interrupted\n"


def test_a_factory_may_lie_in_the_current_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[1:])
    monkeypatch.setattr(sys, "argv", ["diffspeed", "cost", "here:make", "--claimed", "0"])
    assert main() == 2
    assert sys.path[0] == str(tmp_path)


def test_a_claim_below_the_bound_is_impossible():
    """Three steps of 4.5 GFLOP in bfloat16, and a GEMM of 2 in each of two encoder calls."""
    flops = 3 * 4.5e9 + 2 * 2e9
    fastest_s = flops / 312e12  # of an A100; all bytes fit into its cache
    lines = bound_lines(PLAIN, "a100", claimed_s=fastest_s / 2)
    assert lines[1].startswith("  step 3: at least 0.0144 ms (products 0.0144 ms, memory 0 ms)")
    assert lines[3].endswith("s needs 200% of the peaks: impossible")
    assert bound_lines(PLAIN, "a100", 1.0)[3].endswith(
        "needs 0% of the peaks: possible by this bound"
    )


def test_a_claim_of_no_time_is_refused(capsys):
    assert main(["cost", "demo", "--claimed", "0"]) == 2
    assert "--claimed=0: give the seconds of a call, above 0" in capsys.readouterr().err


def test_blocks_that_were_calculated_are_said():
    few = "38 Block, calculated from 2 and 3"
    assert f"unet: {few}" in table_lines(made("compile", calls("unet", (0,), GEMM, depth=few)))


def resources(name, registers, stack=(0, 0), shared=(0, 2048), variants=2):
    return KernelResources(name, variants, registers, stack, shared)


def test_registers_are_ranges_with_the_worst_first_and_the_rest_counted():
    kernels = (
        resources("triton_poi_fused_add_1", (16, 16)),
        resources(f"triton_red_fused_{'norm_' * 20}2", (40, 60), shared=(4096, 16384)),
        resources("triton_poi_fused_cat_3", (20, 24), stack=(0, 32)),
    )
    cost = made("compile", replace(calls("unet", (0,), GEMM), resources=kernels))
    lines = resource_lines(cost, most=2)
    assert (
        lines[4] == "unet: 3 distinct Triton kernels, 1 with stack in a variant; the 2 worst of "
        "these, 1 not shown"
    )
    assert lines[5].split() == ["registers", "stack", "shared", "variants", "kernel"]
    assert lines[6].split()[:3] == ["20–24", "0–32", "B"]
    assert lines[6].endswith("triton_poi_fused_cat_3")
    assert lines[7].split()[:5] == ["40–60", "0", "B", "4.1", "kB–16.4"]
    assert len(lines) == 8
    assert max(map(len, lines)) <= WIDTH
    assert GpuCost.from_json(json.loads(json.dumps(cost.to_json()))) == cost


@needs_counts
def test_registers_of_a_stack_that_compiles_nothing_are_refused(capsys):
    assert main(["cost", "demo", "--stack", "bf16", "--steps", "1", "--resources"]) == 2
    assert "bf16 compiles nothing, so it has no Triton kernels" in capsys.readouterr().err


FASTER = made("bf16+x", calls("transformer", (0, 1, 2), GEMM))


def test_a_modelled_ratio_comes_with_its_interval_its_error_and_what_it_cannot_tell():
    lines = ratio_lines(PLAIN, FASTER, "a100")
    assert lines[0] == "modelled, not measured: step 3 of bf16+x against bf16 on A GPU"
    assert re.match(r"  \d\.\d\d times as fast \(\d\.\d\d to \d\.\d\d\): ", lines[1])
    text = " ".join(line.strip() for line in lines)
    furthest, pairs = ERRORS["eager"].furthest, ERRORS["eager"].pairs
    assert f"on published ladders such ratios were off by up to {furthest:.0%} (of {pairs}" in text
    assert "It cannot tell differences below 5%, eager against compiled" in text
    assert "The CPU is the slower one here" not in text
    assert "no difference that a model can tell" in ratio_lines(PLAIN, PLAIN, "a100")[1]
    assert max(map(len, lines)) <= WIDTH


def test_a_ratio_of_launches_is_said_to_be_one():
    many, fewer = (made("x", calls("unet", (0, 1, 2), *[CAST] * n)) for n in (90, 60))
    text = "\n".join(ratio_lines(many, fewer, "a100"))
    assert "The CPU is the slower one here: the time is that of its launches" in text


def test_what_could_matter_at_most_is_a_line_for_each_question():
    lines = at_most_lines(PLAIN, "a100", FASTER)
    assert lines[0].startswith("what could matter at most, of step 3 of bf16: ")
    text = "\n".join(lines)
    assert "\n  going to bf16+x: saves at most " in text
    assert "(the 2 kernels that go take " in text
    assert "\n  host syncs: cost at most " in text
    assert "\n  anything with these kernels: saves at most " in text
    assert "going to" not in "\n".join(at_most_lines(PLAIN, "a100"))
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "name that by --against STACK"),
        (("--against", "bf16+compile"), "one of the two is eager and the other compiled"),
    ],
)
def test_a_modelled_ratio_of_nothing_comparable_is_refused_before_anything_is_counted(
    capsys, words, sentence
):
    assert main(["cost", "demo", "--stack", "bf16", "--modelled-time", *words]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "counting" not in captured.err


def test_products_that_the_gpu_lacks_end_with_a_sentence(capsys, monkeypatch):
    in_f8 = made("f8", calls("unet", (0, 1, 2), replace(GEMM, unit="f8")))
    monkeypatch.setattr("pytest_diffspeed.commands.cost._counted", lambda *a, **k: in_f8)
    assert main(["cost", "demo", "--bound"]) == 2
    assert "has no products in f8, which addmm at" in capsys.readouterr().err


@needs_counts
def test_a_real_count_is_printed_and_written(capsys, tmp_path):
    file = tmp_path / "cost.json"
    assert main(["cost", "demo", "--stack", "bf16", "--steps", "2", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("demo with bf16 on NVIDIA A100-SXM4-80GB: one call, 2 steps\n")
    assert "diffusers/models/resnet.py:" in printed
    assert max(map(len, printed.splitlines())) <= WIDTH
    (written,) = json.loads(file.read_text())
    assert GpuCost.from_json(written).components == (
        "text_encoder",
        "text_encoder_2",
        "unet",
        "vae.decode",
    )


def test_a_refusal_ends_with_2_and_one_sentence(capsys):
    assert main(["cost", "demo", "--gpu", "k80"]) == 2
    assert "diffspeed: 'k80' is not a GPU known here" in capsys.readouterr().err

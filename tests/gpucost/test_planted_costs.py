"""Planted regressions move a figure, refactorings move none: on one block of SDXL.

The whole table, compiled too, is `make benchmark-gpucost-plants`; its output is
docs/gpu_cost_plants.md.
"""

import os
import re
import sys
from pathlib import Path

import pytest
import torch

from pytest_diffspeed.gpucost import CostLimits, compare_costs

PLANTED = Path(__file__).parent / "planted"
sys.path.insert(0, str(PLANTED))
import expected  # noqa: E402  it stands beside the worker

sys.path.remove(str(PLANTED))

SAMPLE = ("refactored", "graph_break", "float32_linear", "opaque_norm", "weights_not_channels_last")
IMPROVES = {"fused_projections"}
# What was counted falls in eager mode, and cuDNN copies instead.
LOSES_CHANNELS_LAST = ("weights_not_channels_last", "all_in_usual_order")


@pytest.fixture(scope="module")
def compiled(count_rows):
    """Of the compiled rows those whose figures fall although they are regressions, and one more."""
    return count_rows(
        "eager:nothing", "compiled:nothing", *(f"compiled:{name}" for name in SAMPLE), seed=2
    )


def against(counts, mode, name):
    return counts[f"{mode}:{expected.AGAINST.get(name, 'nothing')}"], counts[f"{mode}:{name}"]


@pytest.mark.parametrize("name", expected.EAGER)
def test_eager(eager, name):
    assert expected.wrong("eager", name, *against(eager, "eager", name)) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_compiled(compiled, name):
    assert expected.wrong("compiled", name, *against(compiled, "compiled", name)) == []


@pytest.mark.parametrize("name", LOSES_CHANNELS_LAST)
def test_lost_channels_last_shows_in_what_is_modelled(eager, name):
    """The convolution's own copies, each with its line; nothing that was counted grows."""
    base, cost = against(eager, "eager", name)
    comparison = compare_costs(base, cost)
    assert [change.name for change in comparison.failed] == ["hidden"]
    assert cost.figures()["hidden_bytes"] > 1.5 * base.figures()["hidden_bytes"]
    assert {change.kind for change in comparison.more_hidden} == {"conv"}
    lines = {line for change in comparison.more_hidden for line in change.lines}
    assert any(line.startswith("diffusers/models/resnet.py:") for line in lines)
    assert compare_costs(base, cost, CostLimits(hidden=None)).passes


@pytest.mark.parametrize("name", expected.EAGER)
def test_limits_fail_what_costs_and_nothing_else(eager, name):
    harmless = expected.EAGER[name] == expected.NOTHING or name in IMPROVES
    comparison = compare_costs(*against(eager, "eager", name))
    assert comparison.passes == harmless, comparison.failed


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_limits_fail_what_costs_compiled(compiled, name):
    comparison = compare_costs(*against(compiled, "compiled", name))
    assert comparison.passes == (name == "refactored"), comparison.failed


@pytest.mark.parametrize(
    ("name", "figure"),
    [
        ("opaque_norm", "opaque"),  # its own kernels are hidden
        ("int8_but_one", "flops.b16+"),  # fewer kernels, fewer bytes
    ],
)
def test_a_regression_that_looks_like_an_improvement_is_found(eager, name, figure):
    comparison = compare_costs(*against(eager, "eager", name))
    assert [change.name for change in comparison.failed] == [figure]
    assert "bytes" in [change.name for change in comparison.improved]


def line_of(text):
    source = (PLANTED / "block.py").read_text("utf-8").splitlines()
    (number,) = [i for i, line in enumerate(source, 1) if text in line]
    return f"block.py:{number}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("transposed", "x.transpose(1, 2).contiguous()"),
        ("there_and_back", "before=lambda x: x.float().to(x.dtype)"),
        ("float32_linear", "F.linear(x.float(), linear.weight.float())"),
        ("opaque_norm", "return opaque_group_norm(x"),
        ("gelu_by_hand", "torch.erf(x / 1.4142135)"),
        ("table_on_the_cpu", "torch.tensor([1.0, 2.0])"),
        ("tile_copies", "left, right = "),
    ],
)
def test_new_kernels_come_with_the_planted_line(eager, name, text):
    comparison = compare_costs(*against(eager, "eager", name))
    lines = {line.rpartition("/")[2] for change in comparison.more for line in change.lines}
    assert line_of(text) in lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("float32_linear", "F.linear(x.float(), linear.weight.float())"),
        ("opaque_norm", "return opaque_group_norm(x"),
    ],
)
def test_new_compiled_kernels_come_with_the_planted_line(compiled, name, text):
    comparison = compare_costs(*against(compiled, "compiled", name))
    lines = {line.rpartition("/")[2] for change in comparison.more for line in change.lines}
    assert line_of(text) in lines


@pytest.mark.slow
def test_a_graph_break_is_told_with_its_line(compiled):
    (told,) = compiled["compiled:graph_break"].breaks
    assert told.endswith(line_of("torch._dynamo.graph_break()"))


def test_no_line_is_a_librarys(eager):
    for row in ("eager:nothing", "eager:int8", "eager:plain_attention"):
        for kernel in eager[row].kernels:
            assert re.match(r"(diffusers/|.*planted/block\.py:)", kernel.site), kernel


@pytest.mark.slow
def test_no_compiled_line_is_a_librarys(compiled):
    for kernel in compiled["compiled:nothing"].kernels:
        for line in kernel.lines:
            assert re.match(r"(diffusers/|.*planted/block\.py:)", line), kernel


def test_a_value_that_is_read_is_refused_with_its_line(eager):
    kind, said = eager.refusal("eager:item")
    assert kind == "ValueDependentError"
    assert line_of("x.max().item()") in said
    assert "asks for a value" in said


def test_counted_and_modelled_are_kept_apart(eager):
    kernels = eager["eager:nothing"].kernels
    modelled = {(k.kind, k.name) for k in kernels if k.evidence == "modelled"}
    assert modelled <= {
        ("attention", "_scaled_dot_product_flash_attention"),
        ("layout", "clone"),  # in group norm, where the dispatcher does not see it
    }
    assert {k.kind for k in kernels if k.hidden_launches} == {"reduction", "conv"}


@pytest.mark.slow
def test_every_launch_in_the_written_code_is_counted(compiled):
    for name in ("nothing", *SAMPLE):
        cost = compiled[f"compiled:{name}"]
        assert cost.launches_in_code == cost.figures()["kernels"] > 40, name
        assert cost.notes == ()  # where the two differ, a note says so


def test_int8_and_bfloat16_add_up_to_the_same_flops(eager):
    before, after = (eager[f"eager:{name}"].figures() for name in ("nothing", "int8"))
    assert after["flops"] == before["flops"]
    assert after["flops.i8"] + after["flops.b16"] == before["flops.b16"]


@pytest.mark.slow
def test_eager_and_compiled_do_the_same_products(compiled):
    eager_cost, compiled_cost = compiled["eager:nothing"], compiled["compiled:nothing"]
    for kind in ("gemm", "conv", "attention"):
        one, other = (
            sorted((k.shape, k.flops, k.unit) for k in cost.kernels if k.kind == kind)
            for cost in (eager_cost, compiled_cost)
        )
        assert one == other


@pytest.mark.slow
def test_two_processes_count_the_same(eager, compiled):
    # Of other hash seeds; the order in which plants are counted differs too.
    assert eager["eager:nothing"] == compiled["eager:nothing"]


def test_the_worker_leaves_nothing_behind(eager):
    with pytest.raises(ProcessLookupError):
        os.killpg(eager.process["group"], 0)
    left = [path for path in eager.folder.rglob("*") if path.is_file()]
    assert left == [eager.folder / "counts.json"]


@pytest.mark.slow
def test_the_worker_of_compiled_counts_leaves_nothing_behind(compiled):
    with pytest.raises(ProcessLookupError):
        os.killpg(compiled.process["group"], 0)
    left = [path for path in compiled.folder.rglob("*") if path.is_file()]
    assert left == [compiled.folder / "counts.json"]


def test_this_process_believes_in_no_gpu(eager):
    assert "fake_gpu" not in vars(torch.cuda.is_available)
    assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)

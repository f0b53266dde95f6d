"""From a source and a stack to a GPU cost: real pipelines, no GPU, no weights."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pytest_diffspeed
from pytest_diffspeed.arms.gpu_cost.depth import one_more
from pytest_diffspeed.arms.gpu_cost.order import CountOrder
from pytest_diffspeed.arms.gpu_cost.result import GpuCost
from pytest_diffspeed.common.errors import MeasurementError, UsageError
from pytest_diffspeed.gpucost import Cost, Kernel, compare_costs
from tests.counting_gpu_cost import needs_counts

ROOT = Path(__file__).parents[3]
HERE = "tests.arms.gpu_cost.sources"
DEMO = "demo"
ORDERS = {
    "fp32": (DEMO, "fp32"),
    "bf16": (DEMO, "bf16"),
    "with weights": (f"{HERE}:demo", "bf16"),
    "channels_last": (DEMO, "bf16+channels_last"),
    "fused_qkv": (DEMO, "bf16+fused_qkv"),
    "no_sdpa": (DEMO, "bf16+no_sdpa"),
    "int8": (DEMO, "bf16+int8_dynamic"),
    "reads a value": (f"{HERE}:reads_a_value", "bf16"),
    "twice": (f"{HERE}:guided_twice", "bf16"),
    "float8 on an A100": (DEMO, "bf16+fp8_dynamic"),
    "own compilation": (f"{HERE}:demo", "compile_elsewhere"),
    "small": ("random:DDPMPipeline", "fp32"),
    "every other call": (f"{HERE}:every_other_call", "fp32"),
    "counts its calls": (f"{HERE}:counts_its_calls", "fp32"),
    "once more": (f"{HERE}:once_more", "fp32"),
    "inference mode": (f"{HERE}:in_inference_mode", "fp32"),
}
STEPS = {"every other call": 4, "counts its calls": 4}
"""In place of two."""
pytestmark = needs_counts


def in_one_process(module, *args, **environment):
    """The JSON that ``python -m module`` printed last."""
    done = subprocess.run(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def answers():
    orders = [
        {**CountOrder(source, stack, "a100", steps=STEPS.get(name, 2)).as_dict()}
        for name, (source, stack) in ORDERS.items()
    ]
    found = in_one_process("tests.arms.gpu_cost.count_all", json.dumps(orders), PYTHONHASHSEED="1")
    return dict(zip(ORDERS, found, strict=True))


@pytest.fixture(scope="module")
def costs(answers):
    return {name: GpuCost.from_json(a) for name, a in answers.items() if "refused" not in a}


def unet(cost):
    return cost.of("unet").figures()


def test_components_are_seen_with_their_roles_steps_and_calls(costs):
    found = [(c.component, c.role, c.how, c.calls, c.steps) for c in costs["bf16"].calls]
    assert found == [
        ("text_encoder", "encoder", "eager", 1, ()),
        ("text_encoder_2", "encoder", "eager", 1, ()),
        ("unet", "denoiser", "eager", 2, (0, 1)),
        ("vae.decode", "decoder", "eager", 1, ()),
    ]
    assert costs["bf16"].steps == 2
    assert any("guidance" in sentence for sentence in costs["bf16"].not_counted)


def test_guidance_doubles_the_batch_of_the_denoiser_and_of_nothing_else(costs):
    by_name = {c.component: c.cost for c in costs["bf16"].calls}
    convolutions = [k.shape[0] for k in by_name["unet"].kernels if k.kind == "conv"]
    assert set(convolutions) == {2}
    assert {k.shape[0] for k in by_name["vae.decode"].kernels if k.kind == "conv"} == {1}


def test_sums_go_over_calls_and_steps(costs):
    cost = costs["bf16"]
    assert unet(cost)["kernels"] == 2 * cost.step(0).figures()["kernels"]
    parts = sum(cost.of(name).figures()["bytes"] for name in cost.components)
    assert cost.whole.figures()["bytes"] == parts
    with pytest.raises(UsageError, match="the call has 2 steps, from 0: there is no step 2"):
        cost.step(2)
    with pytest.raises(UsageError, match="no call of 'unit' was counted; did you mean 'unet'"):
        cost.of("unit")


def test_a_call_too_many_is_counted_in_its_step(costs):
    unet = next(c for c in costs["twice"].calls if c.role == "denoiser")
    assert (unet.calls, unet.steps) == (4, (0, 0, 1, 1))
    assert costs["twice"].step(1).figures()["flops"] == 2 * costs["bf16"].step(1).figures()["flops"]


def test_calls_with_equal_inputs_cost_the_same_only_if_the_component_kept_nothing(costs):
    one, two = costs["every other call"].calls
    assert [(unet.steps, unet.calls) for unet in (one, two)] == [((0, 2), 2), ((1, 3), 2)]
    assert two.cost.figures()["flops"] == 2 * one.cost.figures()["flops"]
    (unet,) = costs["counts its calls"].calls
    assert (unet.steps, unet.calls) == ((0, 1, 2, 3), 4)
    assert unet.cost.kernels == costs["small"].calls[0].cost.kernels


def test_a_denoiser_that_runs_behind_the_last_step_is_outside_of_the_steps(costs):
    steps, after = costs["once more"].calls
    assert (steps.steps, steps.calls, after.steps, after.calls) == ((0, 1), 2, (), 1)
    assert costs["once more"].outside.kernels == costs["small"].step(0).kernels


def test_a_denoiser_in_inference_mode_costs_what_it_costs_without(costs):
    assert costs["inference mode"].step(0).figures() == costs["small"].step(0).figures()


def test_a_pipeline_with_weights_and_one_without_cost_the_same(costs):
    marks = [
        [(c.component, c.cost.fingerprint()) for c in costs[name].calls]
        for name in ("bf16", "with weights")
    ]
    assert marks[0] == marks[1]


def test_a_copy_in_json_is_the_same(costs):
    cost = costs["bf16"]
    assert GpuCost.from_json(json.loads(json.dumps(cost.to_json()))) == cost


def test_precision_is_what_flops_are_counted_in(costs):
    for stack, unit in (("fp32", "f32"), ("bf16", "b16")):
        figures = unet(costs[stack])
        assert figures["flops"] > 0
        assert figures[f"flops.{unit}"] == figures["flops"]


def test_each_technique_moves_its_figures(costs):
    before = unet(costs["bf16"])
    assert unet(costs["channels_last"])["hidden"] < before["hidden"]
    assert unet(costs["fused_qkv"])["kind.gemm"] < before["kind.gemm"]
    assert unet(costs["fused_qkv"])["flops"] == before["flops"]
    assert before["attention"] > 0
    assert unet(costs["no_sdpa"])["attention"] == 0
    int8, full = unet(costs["int8"]), before
    assert int8["flops.i8"] > 0
    assert int8["flops.i8"] + int8["flops.b16"] == full["flops.b16"]
    assert int8["casts"] > full["casts"]


def test_losing_channels_last_is_growth_in_eager_mode_too(costs):
    comparison = compare_costs(costs["channels_last"].step(1), costs["bf16"].step(1))
    assert "hidden" in [change.name for change in comparison.failed]
    lines = {line for change in comparison.more_hidden for line in change.lines}
    assert any(line.startswith("diffusers/models/resnet.py:") for line in lines)


def test_a_line_that_asks_for_a_value_is_named(answers):
    text = (ROOT / "tests/arms/gpu_cost/sources.py").read_text("utf-8")
    line = text[: text.index("the line of the fault")].count("\n") + 1
    said = answers["reads a value"]["refused"]
    assert f"tests/arms/gpu_cost/sources.py:{line} asks for a value" in said


def test_float8_products_are_refused_where_the_gpu_has_none(answers):
    why = "it needs compute capability 8.9, and this GPU has 8.0"
    assert why in answers["float8 on an A100"]["refused"]


def test_a_stack_that_does_not_exist_is_refused(answers):
    assert "no technique is called 'compile_elsewhere'" in answers["own compilation"]["refused"]


def test_a_few_blocks_tell_what_all_of_them_cost():
    found = in_one_process("tests.arms.gpu_cost.count_depths")
    for name, words in (
        ("flux", "16 FluxTransformerBlock and 20 FluxSingleTransformerBlock"),
        ("unet", "4 × 10 BasicTransformerBlock in Transformer2DModel"),
    ):
        whole, few = found[name]["figures"]
        assert few == whole
        assert found[name]["depth"] == f"{words}, calculated from 2 and 3"
        assert found[name]["doubted"] == ""  # other FLOPs than with all blocks: these are counted
        assert found[name]["hooks"] == 0
    assert found["flux"]["kept"]
    assert found["flux"]["parts"] == []  # the blocks are the model's own
    assert found["unet"]["parts"] == ["Transformer2DModel"] * 2
    assert found["unet"]["without parts"].startswith("4 × 10 BasicTransformerBlock, calculated")


@pytest.mark.slow
def test_what_a_stack_compiles_is_counted_in_the_code_that_the_compiler_writes():
    stack = "bf16+compile(mode=max-autotune)"
    order = CountOrder("random:DDPMPipeline", stack, "a100", steps=1, resources=True)
    answer = in_one_process("tests.arms.gpu_cost.count_all", json.dumps([order.as_dict()]))
    cost = GpuCost.from_json(answer[0])
    (unet,) = cost.calls
    assert (unet.component, unet.how, unet.depth) == ("unet", "compiled", "")
    figures = unet.cost.figures()
    assert figures["kernels"] == unet.cost.launches_in_code > 100
    assert (figures["graphs"], figures["breaks"]) == (1, 0)
    assert figures["kind.triton_pointwise"] > 0
    assert figures["kind.pointwise"] == 0
    assert any("max_autotune was counted as off" in note for note in cost.notes)
    assert "max_autotune" in cost.key["inductor_options"]
    generated = figures["kind.triton_pointwise"] + figures["kind.triton_reduction"]
    assert 20 < len(unet.resources) <= generated + figures["kind.layout"]
    assert len({kernel.name for kernel in unet.resources}) == len(unet.resources)
    assert all(8 <= low <= high <= 255 for low, high in (k.registers for k in unet.resources))


GEMM = Kernel("addmm", "gemm", 100, 10, "b16", (1, 2, 2, 2))
SILU = Kernel("add+silu", "triton_pointwise", 10, shape=(4,))


def test_a_product_whose_bytes_differ_at_another_depth_is_one_more_all_the_same():
    last = replace(GEMM, bytes=90)
    two, three = Cost((GEMM, GEMM, last)), Cost((GEMM,) * 4 + (replace(GEMM, bytes=80),))
    assert one_more(two, three) == ([GEMM, GEMM], set())


def test_a_kernel_that_blocks_share_stays_one():
    two, three = Cost((SILU,)), Cost((replace(SILU, bytes=15),))
    assert one_more(two, three) == ([], {"add+silu"})
    assert one_more(Cost((SILU,)), Cost((SILU, SILU))) == ([SILU], set())


def test_counting_leaves_no_process_and_the_parent_as_it_was(costs, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    before = torch.cuda.is_available()
    cost = pytest_diffspeed.count_gpu_cost(DEMO, stack="bf16", steps=2)
    assert [(c.component, c.cost.fingerprint()) for c in cost.calls] == [
        (c.component, c.cost.fingerprint()) for c in costs["bf16"].calls
    ]
    assert cost.key == costs["bf16"].key
    assert torch.cuda.is_available() == before
    assert children() == []


def test_what_a_count_writes_lies_in_a_folder_that_its_parent_removes(tmp_path, monkeypatch):
    """Also where the parent kills it, as after Ctrl-C."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found, done = set(), threading.Event()

    def look():
        while not done.wait(0.1):
            found.update(path.parent.name for path in tmp_path.glob("**/gpucost-*"))

    looks = threading.Thread(target=look)
    looks.start()
    try:
        pytest_diffspeed.count_gpu_cost("random:DDPMPipeline", steps=1)
    finally:
        done.set()
        looks.join()
    assert [name.startswith("diffspeed-worker-") for name in found] == [True]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_counted_is_one_sentence_of_the_worker():
    with pytest.raises(
        MeasurementError, match=r"^'k80' is not a GPU known here: a100, h100"
    ) as error:
        pytest_diffspeed.count_gpu_cost(DEMO, gpu="k80")
    assert "\n" not in str(error.value)
    assert children() == []


def children():
    """Processes that this one started and that still run."""
    own = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not own.exists():
        pytest.skip("this system does not tell a process's children")
    names = []
    for pid in own.read_text().split():
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if "diffspeed_worker" in command:
            names.append(command)
    return names

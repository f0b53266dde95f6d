"""``model_offload`` and ``group_offload`` on the simulated GPU: where weights were, what moved."""

import json

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.catalog.cuda import CudaAllocator
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.adapters.offload_hooks import computes_on
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    MeasurementError,
    MissingHardwareError,
    NotEffectiveError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.components import modules
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.techniques.apply import undo_stack
from pytest_diffspeed.techniques.catalog import offload
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.undo import snapshot
from pytest_diffspeed.timing.memory import bytes_of

FITS = torch.backends.cuda.is_built() and not torch.cuda.is_available()
on_the_device = pytest.mark.skipif(not FITS, reason="hooks move weights to a device called `cuda`")
DEVICE = Device("cuda", 0, "Simulated GPU", "simulated")


@pytest.fixture
def gpu():
    with SimulatedGpu("cuda") as device:
        yield device


@pytest.fixture
def placed(pipeline, call, gpu):
    with third_party():
        pipeline.to(gpu.device)
    return pipeline, call


def drawn(pipeline, call):
    with third_party():
        return call(pipeline, steps=2).cpu()  # as proofs do


@on_the_device
def test_what_is_held_falls_and_what_is_moved_is_told(placed, gpu):
    """As the simulated GPU counts a call by itself, and undone to the same image."""
    pipeline, call = placed
    before, was = drawn(pipeline, call), snapshot(pipeline)
    weights = bytes_of(modules(pipeline).values(), gpu.device)
    figures = {}
    for stack in ("model_offload", "group_offload(block_level)", "group_offload"):
        applied = apply_stack(pipeline, stack, call=call, device=DEVICE)
        (proof,) = applied.proofs
        assert "on the device only while they ran" in proof.found
        assert json.loads(json.dumps(vars(proof))) == vars(proof)  # it goes into the record
        figures[stack] = proof.figures
        assert bytes_of(modules(pipeline).values(), gpu.device) == 0
        assert computes_on(pipeline) == gpu.device
        held = gpu.memory.live_bytes
        gpu.reset_peak_memory()
        assert torch.equal(drawn(pipeline, call), before)
        # But for the tables that a scheduler keeps of the call before, and drops in the next one.
        assert abs(gpu.memory.peak_bytes - proof.figures["peak_bytes"]) <= held < 100
        undo_stack(pipeline, stack)
        assert snapshot(pipeline) == was
        assert torch.equal(drawn(pipeline, call), before)
    models, blocks, layers = (one["peak_bytes"] for one in figures.values())
    assert layers < blocks < models < figures["model_offload"]["peak_bytes_before"]
    # A model is copied once a call; in groups the denoiser is copied anew in each step.
    unet = figures["model_offload"]["components"]["unet"]
    assert unet["copied_bytes"] >= unet["weight_bytes"]
    assert figures["model_offload"]["to_device_bytes"] >= weights
    again = figures["group_offload"]["components"]["unet"]
    assert again["copied_bytes"] >= 2 * again["weight_bytes"]


@on_the_device
@pytest.mark.parametrize("stack", ["model_offload", "group_offload"])
def test_an_arm_is_counted_where_it_computes_and_calling_it_is_no_change(stack, placed):
    """As `max_memory` counts it on a GPU: the arm's weights are not on it before a call."""
    pipeline, call = placed
    arm = Builder(DEVICE).prepare(ArmSpec("here", parse_stack(stack)), pipeline, call)
    allocator = CudaAllocator(DEVICE)
    found = [arm.peak_memory(allocator).allocated_bytes for _ in range(2)]
    arm.require_unchanged()
    (proof,) = arm.applied.proofs
    assert all(abs(one - proof.figures["peak_bytes"]) < 4096 for one in found)
    pipeline.unet.conv_in.padding_mode = "reflect"  # what a test's body changes is still told
    with pytest.raises(MeasurementError, match="unet's settings"):
        arm.require_unchanged()


@on_the_device
@pytest.mark.parametrize("what", ["one is left", "none is moved"])
def test_weights_that_stay_on_the_device_are_noticed(what, placed, monkeypatch):
    pipeline, call = placed

    def some(self, pipe, device):
        from pytest_diffspeed.adapters.diffusers_offload import offload_groups

        for name, part in modules(pipe).items():
            if what == "one is left" and name != "unet":
                offload_groups(part, device, level="leaf_level", blocks=None)

    monkeypatch.setattr(offload.GroupOffload, "offload", some)
    name = "unet" if what == "one is left" else next(iter(modules(pipeline)))
    told = rf"expected the weights of {name} on the host after a call, found .* on the device"
    with pytest.raises(NotEffectiveError, match=told):
        apply_stack(pipeline, "group_offload", call=call, device=DEVICE)
    assert {p.device.type for p in pipeline.vae.parameters()} == {"cuda"}  # it was undone


@pytest.mark.parametrize("offloaded", ["model_offload", "group_offload"])
@pytest.mark.parametrize(
    ("beside", "why"),
    [
        ("compile", "hooks that move weights are kept out of compiled code"),
        ("compile_regional", "each is a graph break"),
        ("int8_dynamic", "quantized weights are made of several tensors"),
        ("layerwise_casting", "or are cast by hooks of their own"),
    ],
)
def test_what_cannot_be_moved_is_refused(offloaded, beside, why):
    with pytest.raises(UnknownStackError, match=why):
        parse_stack(f"bf16+{offloaded}+{beside}")


def test_weights_that_anything_has_quantized_are_refused():
    """Techniques of plug-ins too: by the weights, whatever their names."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    part = torch.nn.Sequential(torch.nn.Linear(64, 64))
    offload.GroupOffload().require_plain({"unet": part})
    with third_party():
        quantize_(part, Int8WeightOnlyConfig(set_inductor_config=False))
    with pytest.raises(IncompatibleError, match=r"quantized weights \(unet\): quantized"):
        offload.GroupOffload().require_plain({"unet": part})


@on_the_device
def test_a_pipeline_without_an_order_of_models_is_refused(placed, monkeypatch):
    pipeline, call = placed
    monkeypatch.setattr(type(pipeline), "model_cpu_offload_seq", None)
    with pytest.raises(IncompatibleError, match="does not say in which order its models run"):
        apply_stack(pipeline, "model_offload", call=call, device=DEVICE)


@pytest.mark.parametrize("name", ["model_offload", "group_offload"])
def test_a_cpu_has_nowhere_to_move_weights_to(name, pipeline, call):
    with pytest.raises(MissingHardwareError, match=f"{name} on .*: its memory is the host's"):
        apply_stack(pipeline, name, call=call)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model_offload+group_offload", "both of the family 'offload' and contradict each other"),
        ("group_offload(num_blocks_per_group=2)", "is for blocks; write 'group_offload(block_lev"),
        ("group_offload(block_level, num_blocks_per_group=0)", "at least 1, not 0"),
        ("group_offload(layers)", "'leaf_level'|leaf_level"),
    ],
)
def test_words_are_checked_without_a_pipeline(text, told):
    with pytest.raises(UnknownStackError) as caught:
        parse_stack(text)
    assert any(one in str(caught.value) for one in told.split("|"))


def test_one_way_of_writing():
    stack = parse_stack("group_offload(level=block_level, num_blocks_per_group=2)+bf16")
    assert stack.name == "bf16+group_offload(block_level,num_blocks_per_group=2)"
    assert parse_stack("group_offload(leaf_level)").name == "group_offload"

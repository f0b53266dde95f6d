"""An arm with a cache of features: called whole only, and in no way that its state would spoil."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.component_calls import NotAloneError, component_arms
from pytest_diffspeed.arms.gpu_cost.stack import apply_to_fakes
from pytest_diffspeed.arms.lockstep import step_arms
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import IncompatibleError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.stacks import parse_stack
from tests.arms.small_arms import OneSecond

SOURCE = "random:StableDiffusionPipeline"
STACK = parse_stack("pyramid_attention(spatial_attention_block_skip_range=2)")


@pytest.fixture(scope="module")
def arm():
    source = parse_source(SOURCE)
    with third_party():
        pipeline = source.build()
        call = PipelineCall(pipeline, replace(source.defaults(pipeline), steps=6))
    return Builder(resolve_device("cpu")).prepare(ArmSpec(SOURCE, STACK), pipeline, call)


def test_its_denoiser_is_not_called_alone_and_its_steps_are_not_timed_in_lockstep(arm):
    why = r"unet keeps a state between (calls|steps) \(hook 'pyramid_attention_broadcast'\)"
    with pytest.raises(NotAloneError, match=why):
        component_arms([arm], "denoiser")
    with pytest.raises(NotAloneError, match=why):
        step_arms([arm])


def test_its_calls_are_alike_and_leave_what_was_proven(arm):
    timed = arm.arm_of("call")
    timed.timed_call(OneSecond())
    first = arm.images()
    timed.timed_call(OneSecond())
    assert torch.equal(torch.from_numpy(arm.images()), torch.from_numpy(first))
    arm.require_unchanged()


def test_its_gpu_cost_is_refused(arm):
    fakes = SimpleNamespace(on_the_gpu=nullcontext)
    with pytest.raises(IncompatibleError, match="what pyramid_attention leaves out depends on val"):
        apply_to_fakes(STACK, arm.pipeline, fakes, resolve_device("cpu"), lambda: None)

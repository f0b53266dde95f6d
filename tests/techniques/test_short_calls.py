"""Schedulers whose steps are not those that were asked for, in short calls and in whole ones."""

from functools import partial

import diffusers
import pytest
import torch

from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import CallDefaults
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.targets import targets_of
from tests.copying_pipeline import build

PNDM, DDIM = diffusers.PNDMScheduler, diffusers.DDIMScheduler
WITHOUT_PRK = partial(PNDM, skip_prk_steps=True)


class Stepping(type(build())):
    """One scheduler's steps, those above ``denoising_end`` of the noise alone, as SDXL has it."""

    @torch.no_grad()
    def __call__(
        self, num_inference_steps=3, denoising_end=1.0, output_type="pt", return_dict=False
    ):
        self.scheduler.set_timesteps(num_inference_steps)
        sample = torch.zeros(1, 3, 8, 8)
        for timestep in self.scheduler.timesteps:
            if timestep < 1000 * (1 - denoising_end):
                break
            scaled = self.scheduler.scale_model_input(sample, timestep)
            predicted = self.unet(scaled, timestep).sample
            sample = self.scheduler.step(predicted, timestep, sample, return_dict=False)[0]
        return (sample.clamp(0, 1),)


def arm_of(scheduler, steps, stack="fp32", **arguments):
    with third_party():
        pipeline = Stepping(build().unet, scheduler())
        call = PipelineCall(pipeline, CallDefaults((), steps, arguments=arguments))
        return Builder(resolve_device("cpu")).prepare(
            ArmSpec("here", parse_stack(stack)), pipeline, call
        )


@pytest.mark.parametrize(
    ("scheduler", "arguments", "steps", "ran"),
    [
        (WITHOUT_PRK, {}, 20, 21),
        (PNDM, {}, 20, 29),
        (diffusers.HeunDiscreteScheduler, {}, 20, 39),
        (partial(DDIM, timestep_spacing="trailing"), {"denoising_end": 0.8}, 20, 16),
        (DDIM, {}, 2, 2),
    ],
    ids=["pndm", "pndm-runge-kutta", "heun", "denoising-end", "two-steps"],
)
def test_the_steps_of_a_call_are_those_that_run(scheduler, arguments, steps, ran):
    """A call of 2 has 3, none that works, 3, 2 and 2 of them."""
    assert arm_of(scheduler, steps, **arguments).steps_of_call() == ran


def test_a_stack_is_proven_where_a_call_cannot_be_of_two_steps():
    arm = arm_of(PNDM, 5, "channels_last")
    assert targets_of(arm.pipeline).whole
    observed, steps = arm.observed()
    assert (observed.steps, steps) == (14, 5)
    assert [proof.technique for proof in arm.applied.proofs] == ["channels_last"]


def test_a_call_that_cannot_be_made_at_all_says_so_itself():
    with pytest.raises(
        SourceError, match=r"the first call failed: .* shapes \(6,\) \(8,\); it was"
    ):
        arm_of(PNDM, 3)

"""``cpu_sigmas`` on a pipeline that never sets the begin index, and where it does not fit."""

import copy

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.pipeline_state import pipeline_state
from pytest_diffspeed.techniques.apply import running, undo_stack
from pytest_diffspeed.techniques.catalog.scheduler import CpuSigmas
from pytest_diffspeed.techniques.observe import observe


@pytest.fixture(scope="module")
def parts(tiny):
    sdxl, _ = tiny("unet")
    with third_party(), torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=sdxl.text_encoder.config.hidden_size,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ).eval()
    return {
        "unet": unet,
        "vae": sdxl.vae,
        "text_encoder": sdxl.text_encoder,
        "tokenizer": sdxl.tokenizer,
    }


def stable_diffusion(parts, scheduler):
    with third_party():
        pipeline = StableDiffusionPipeline(
            **parts,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline, steps=3):
    with third_party():
        return pipeline(
            "a red apple",
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
            return_dict=False,
        )[0]


@pytest.fixture
def pipeline(parts):
    return stable_diffusion(parts, EulerDiscreteScheduler())


def test_the_look_up_is_gone_and_the_image_is_the_same(pipeline):
    before = call(pipeline)
    applied = apply_stack(pipeline, "cpu_sigmas", call=call)
    figures = applied.proofs[0].figures
    assert (figures["index_lookups_before"], figures["index_lookups"]) == (1, 0)
    assert set(figures["table_devices"].values()) == {"cpu"}
    with running(applied.stack):
        assert torch.equal(call(pipeline), before)
        assert torch.equal(call(pipeline), before)  # set_timesteps clears it on every call


def test_tables_that_a_scheduler_moves_are_brought_back(parts):
    """``FlowMatchEulerDiscreteScheduler`` leaves its sigmas on the device of the timesteps."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(2, device="meta")
    assert scheduler.sigmas.device.type == "meta"

    pipeline = stable_diffusion(parts, EulerDiscreteScheduler())
    moving = pipeline.scheduler.set_timesteps

    def set_timesteps(num_inference_steps=None, device=None, **kwargs):
        moving(num_inference_steps, device=device, **kwargs)
        pipeline.scheduler.sigmas = Elsewhere(pipeline.scheduler.sigmas)

    pipeline.scheduler.set_timesteps = set_timesteps
    seen = observe(pipeline, lambda: call(pipeline, steps=2), steps=2).scheduler
    assert seen.table_devices["sigmas"] == "cuda:7"
    (proof,) = apply_stack(pipeline, "cpu_sigmas", call=call).proofs
    assert proof.figures["table_devices_before"]["sigmas"] == "cuda:7"
    assert proof.figures["table_devices"]["sigmas"] == "cpu"


class Elsewhere(torch.Tensor):
    """Says that it is on a GPU until it is moved; its values are on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # results are plain tensors

    @staticmethod
    def __new__(cls, values):
        return values.as_subclass(cls)

    @property
    def device(self):
        return torch.device("cuda:7")

    def to(self, device, *_, **__):
        assert torch.device(device).type == "cpu"
        return self.as_subclass(torch.Tensor)


def test_an_index_that_is_cleared_again_is_noticed(pipeline, monkeypatch):
    original = CpuSigmas.apply

    def cleared(self, pipe):
        original(self, pipe)
        ours = pipe.scheduler.set_timesteps

        def set_timesteps(num_inference_steps=None, device=None):
            ours(num_inference_steps, device=device)
            pipe.scheduler._begin_index = None

        pipe.scheduler.set_timesteps = set_timesteps

    monkeypatch.setattr(CpuSigmas, "apply", cleared)
    with pytest.raises(NotEffectiveError, match=r"begin index 0 after set_timesteps, .* None"):
        apply_stack(pipeline, "cpu_sigmas", call=call)


def test_it_does_not_fit_a_scheduler_without_sigmas(parts):
    pipeline = stable_diffusion(parts, DDIMScheduler())
    with pytest.raises(
        IncompatibleError, match="its scheduler, a DDIMScheduler, has no begin index"
    ):
        apply_stack(pipeline, "cpu_sigmas", call=call)


def test_it_does_not_fit_a_call_that_starts_later(pipeline):
    """As image-to-image does: index 0 would be the wrong noise level."""

    def from_the_middle(pipe, steps=3):
        scheduler = pipe.scheduler
        scheduler.set_timesteps(steps)
        sample = torch.zeros(1, 4, 8, 8)
        for timestep in scheduler.timesteps[1:]:
            scaled = scheduler.scale_model_input(sample, timestep)
            text = torch.zeros(1, 2, pipe.unet.config.cross_attention_dim)
            noise = pipe.unet(scaled, timestep, encoder_hidden_states=text).sample
            sample = scheduler.step(noise, timestep, sample).prev_sample
        return sample

    with pytest.raises(IncompatibleError, match="does not start at the first timestep"):
        apply_stack(pipeline, "cpu_sigmas", call=from_the_middle)
    assert "set_timesteps" not in vars(pipeline.scheduler)


def test_it_can_be_undone(pipeline):
    before = call(pipeline)
    apply_stack(pipeline, "cpu_sigmas", call=call)
    undo_stack(pipeline, "cpu_sigmas")
    assert "set_timesteps" not in vars(pipeline.scheduler)
    assert torch.equal(call(pipeline), before)
    assert pipeline.scheduler.begin_index is None


def test_calls_leave_the_pipeline_what_was_proven(parts):
    pipeline = stable_diffusion(parts, EulerDiscreteScheduler())
    apply_stack(pipeline, "cpu_sigmas", call=call)
    before = pipeline_state(pipeline)
    for steps in (3, 2):
        call(pipeline, steps=steps)
        assert pipeline_state(pipeline) == before
    pipeline.scheduler.set_timesteps = pipeline.scheduler.set_timesteps.__wrapped__
    assert pipeline_state(pipeline) != before


def test_a_copy_of_the_scheduler_keeps_it(copying_pipeline):
    """LTX-2 copies its scheduler in each call and steps both."""

    def call(pipe, steps=3):
        return pipe(num_inference_steps=steps)[0]

    before = call(copying_pipeline)
    (proof,) = apply_stack(copying_pipeline, "cpu_sigmas", call=call).proofs
    assert copying_pipeline.used == [(1, 1), (2, 2), (3, 3)]
    figures = proof.figures
    assert (figures["index_lookups_before"], figures["index_lookups"]) == (2, 0)
    assert torch.equal(call(copying_pipeline), before)
    own = copying_pipeline.scheduler
    copied = copy.deepcopy(own)
    copied.set_timesteps(5)
    assert (len(own.timesteps), len(copied.timesteps), copied.begin_index) == (3, 5, 0)

"""The latents of a call: of the shape that the pipeline itself makes, or left to the generator."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines import zoo
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import CallDefaults, Case
from pytest_diffspeed.pipelines.sources import parse_source

SIDE = 64


@pytest.fixture(scope="module")
def text_to_image(libraries):
    return parse_source("random:sdxl-tiny").build()


def as_class(pipeline, kind, **parts):
    with third_party():
        made = kind(**{**pipeline.components, **parts}, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


def picture():
    return np.full((SIDE, SIDE, 3), 0.5, dtype=np.float32)


def call_of(pipeline, **own):
    return PipelineCall(pipeline, CallDefaults.from_mapping(own, CallDefaults((), steps=2)))


def drawn(call, pipeline):
    with third_party():
        return call(pipeline)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("AnimateDiffPipeline", (1, 4, 4, 16, 16)),
        ("Flux2KleinPipeline", (1, 16, 8, 8)),  # given before they are packed
        ("FluxPipeline", (1, 64, 16)),
        ("KandinskyV22PriorPipeline", (1, 16)),
        ("LTXPipeline", (1, 192, 8)),
        ("StableAudioPipeline", (1, 4, 64)),
        ("StableCascadeCombinedPipeline", (1, 16, 3, 3)),  # seen at the prior's first step
        ("StableDiffusionInstructPix2PixPipeline", (1, 4, 16, 16)),
        ("StableDiffusionPipeline-ip-adapter", (1, 4, 16, 16)),
        ("StableVideoDiffusionPipeline", (1, 4, 4, 16, 16)),
        ("WanImageToVideoPipeline", (1, 16, 3, 4, 4)),
    ],
)
def test_latents_are_drawn_as_the_pipeline_makes_them(libraries, name, shape):
    call, pipeline = call_of_zoo(name)
    assert (call.latents_from, call.latents_reason) == ("drawn", "")
    assert tuple(call.latents.shape) == shape
    first = drawn(call, pipeline)
    assert torch.equal(first, drawn(call, pipeline))
    assert not torch.equal(first, drawn(call.of(replace(call.case, seed=9)), pipeline))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DiTPipeline", "its call takes no `latents`"),
        ("LTXImageToVideoPipeline", "it makes them of more than noise from the generator"),
        ("MarigoldDepthPipeline", "ValueError: `latents` and `generator` cannot be used together."),
        # It gives back one tensor where its caller unpacks three.
        ("QwenImageInpaintPipeline", "returns something else than without"),
    ],
)
def test_where_they_cannot_be_given_the_generator_is_used(libraries, name, reason):
    call, pipeline = call_of_zoo(name)
    assert (call.latents, call.latents_from) == (None, "generator")
    assert call.latents_reason.endswith(reason)
    assert torch.equal(drawn(call, pipeline), drawn(call, pipeline))


def call_of_zoo(name):
    source = parse_source(f"random:{name}")
    pipeline = zoo.build(name)
    pipeline.set_progress_bar_config(disable=True)
    return PipelineCall(pipeline, source.defaults(pipeline)), pipeline


def test_latents_have_the_shape_that_the_pipeline_makes(text_to_image):
    call = call_of(text_to_image, prompts=["a fox"], height=32, width=64, num_images_per_prompt=2)
    assert call.latents.dtype is torch.float32
    assert tuple(call.latents.shape) == (2, 4, 8, 16)
    assert call.inputs()["latents"] == "drawn"
    assert torch.equal(call.latents, call.of(Case("an owl", 0)).latents)
    other = call.of(Case("an owl", 1))
    assert not torch.equal(call.latents, other.latents)
    assert drawn(call, text_to_image).shape == (2, 3, 32, 64)


def test_latents_made_of_an_image_are_left_to_the_generator(text_to_image):
    from diffusers import StableDiffusionXLImg2ImgPipeline

    pipeline = as_class(text_to_image, StableDiffusionXLImg2ImgPipeline)
    call = call_of(pipeline, prompts=["a fox"], image=picture(), strength=0.5)
    assert (call.latents, call.latents_from) == (None, "generator")
    assert call.latents_reason == "it makes them of more than noise from the generator"
    assert torch.equal(drawn(call, pipeline), drawn(call, pipeline))


def test_inpainting_with_nine_channels(text_to_image):
    from diffusers import StableDiffusionXLInpaintPipeline, UNet2DConditionModel

    with third_party():
        config = {**text_to_image.unet.config, "in_channels": 9}
        unet = UNet2DConditionModel.from_config(config)
    pipeline = as_class(text_to_image, StableDiffusionXLInpaintPipeline, unet=unet)
    mask = Image.fromarray(np.eye(SIDE, dtype=np.uint8) * 255)
    image = Image.fromarray((picture() * 255).astype(np.uint8))
    call = call_of(
        pipeline,
        prompts=["a fox"],
        image=image,
        mask_image=mask,
        height=SIDE,
        width=SIDE,
        strength=1.0,
    )
    assert call.latents_from == "drawn"
    assert call.latents.shape[1] == 4
    assert drawn(call, pipeline).shape == (1, 3, SIDE, SIDE)


def test_a_pipeline_that_refuses_latents_gets_the_generator(text_to_image):
    class Refuses(type(text_to_image)):
        def __call__(self, latents=None, generator=None, **kwargs):
            if latents is not None and generator is not None:
                raise ValueError("latents and generator cannot be used together")
            return super().__call__(latents=latents, generator=generator, **kwargs)

    call = call_of(as_class(text_to_image, Refuses), prompts=["a fox"])
    assert call.latents_from == "generator"
    assert "cannot be used together" in call.latents_reason


def test_a_pipeline_that_ignores_latents_gets_the_generator(text_to_image):
    class Ignores(type(text_to_image)):
        def prepare_latents(self, *args):
            return super().prepare_latents(*args[:-1], None)

    call = call_of(as_class(text_to_image, Ignores), prompts=["a fox"])
    assert call.latents_from == "generator"
    assert call.latents_reason.startswith("it makes other latents than its own")


def test_a_pipeline_that_draws_in_its_call_is_seen_at_its_first_step(libraries):
    from diffusers import DiffusionPipeline

    class Inline(DiffusionPipeline):
        def __init__(self, unet, scheduler):
            super().__init__()
            self.register_modules(unet=unet, scheduler=scheduler)

        @torch.no_grad()
        def __call__(self, num_inference_steps, latents=None, generator=None, factor=1.0):
            self.scheduler.set_timesteps(num_inference_steps)
            if latents is None:
                latents = torch.randn(1, 3, 8, 8, generator=generator) * factor
            for t in self.scheduler.timesteps:
                noise = self.unet(latents, t).sample
                latents = self.scheduler.step(noise, t, latents).prev_sample
            return (latents,)

    parts = zoo.build("DDIMPipeline").components
    assert call_of(Inline(**parts)).latents.shape == (1, 3, 8, 8)
    # Its own are twice as large as those that it is given may be.
    other = call_of(Inline(**parts), factor=2.0)
    assert (other.latents_from, other.latents) == ("generator", None)


def test_latents_of_the_source_are_used_as_they_are(text_to_image):
    own = torch.ones(1, 4, 16, 16)
    call = call_of(text_to_image, prompts=["a fox"], latents=own, height=SIDE, width=SIDE)
    assert (call.latents, call.latents_from) == (None, "given")
    assert torch.equal(call.arguments(text_to_image)["latents"], own)


def test_watching_leaves_nothing_behind(text_to_image):
    before = set(vars(text_to_image))
    state = torch.get_rng_state()
    call_of(text_to_image, prompts=["a fox"])
    assert set(vars(text_to_image)) == before
    assert torch.equal(torch.get_rng_state(), state)

"""What a call is given: arguments of its own, cases, latents; on real pipelines of diffusers."""

import functools

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_diffspeed import count_syncs
from pytest_diffspeed.common.errors import SourceError, UsageError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import CallDefaults, Case, image_cases
from pytest_diffspeed.pipelines.fingerprints import value_fingerprint
from pytest_diffspeed.pipelines.signature import call_signature
from pytest_diffspeed.pipelines.sources import parse_source

SIDE = 64


@pytest.fixture(scope="module")
def text_to_image(libraries):
    return parse_source("random:sdxl-tiny").build()


@pytest.fixture(scope="module")
def unconditional(libraries):
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    with third_party(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=16,
            block_out_channels=(8, 16),
            norm_num_groups=2,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        )
        pipeline = DDIMPipeline(unet=unet, scheduler=DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def as_class(pipeline, name, **parts):
    import diffusers

    shared = {**pipeline.components, **parts}
    kind = getattr(diffusers, name) if isinstance(name, str) else name
    with third_party():
        made = kind(**shared, add_watermarker=False)
    made.set_progress_bar_config(disable=True)
    return made


def picture(shade=0.5):
    return np.full((SIDE, SIDE, 3), shade, dtype=np.float32)


def call_of(pipeline, **own):
    general = CallDefaults((), steps=2)
    return PipelineCall(pipeline, CallDefaults.from_mapping(own, general))


def drawn(call, pipeline):
    with third_party():
        return call(pipeline)


def test_an_array_becomes_what_was_asked_for(unconditional):
    """As DDIM's, DDPM's and DiT's calls of diffusers 0.39 give one, whatever was asked for."""

    class GivesArrays(type(unconditional)):
        def __call__(self, num_inference_steps, generator, output_type, return_dict):
            return super().__call__(
                num_inference_steps=num_inference_steps,
                generator=generator,
                output_type="np",
                return_dict=return_dict,
            )

    pipeline = GivesArrays(**unconditional.components)
    pipeline.set_progress_bar_config(disable=True)
    images = drawn(call_of(pipeline), pipeline)
    assert images.shape == (1, 3, 16, 16)
    assert torch.equal(images, drawn(call_of(unconditional), unconditional))


# --- arguments of the call, as values and as functions of the case


def test_any_argument_arrives_as_a_value_or_as_a_function_of_the_case(text_to_image, monkeypatch):
    pipeline = as_class(text_to_image, "StableDiffusionXLImg2ImgPipeline")
    call = call_of(
        pipeline,
        prompts=["a fox", "an owl"],
        image=lambda case: picture(0.2 + 0.5 * case.number),
        strength=0.5,
    )
    given = call.arguments(pipeline)
    assert given["strength"] == 0.5
    assert given["image"].mean() == pytest.approx(0.2)
    second = call.of(image_cases(call.defaults, 2)[1]).arguments(pipeline)
    assert (second["prompt"], second["image"].mean()) == ("an owl", pytest.approx(0.7))
    assert drawn(call, pipeline).shape == (1, 3, SIDE, SIDE)


def test_a_function_of_the_case_is_called_once_for_all_calls(text_to_image):
    calls = []
    pipeline = as_class(text_to_image, "StableDiffusionXLImg2ImgPipeline")
    call = call_of(pipeline, prompts=["a fox"], image=lambda case: calls.append(case) or picture())
    call.arguments(pipeline)
    call.arguments(pipeline)
    assert calls == [Case("a fox", 0)]


def test_embeddings_go_where_the_denoiser_is_and_get_its_dtype(text_to_image):
    with third_party():
        embeds = text_to_image.encode_prompt("a fox", device="cpu", num_images_per_prompt=1)
        half = as_class(text_to_image, type(text_to_image))
        half.unet = parse_source("random:sdxl-tiny").build().unet.to(torch.bfloat16)
    own = {
        "prompt_embeds": embeds[0],
        "negative_prompt_embeds": embeds[1],
        "pooled_prompt_embeds": embeds[2],
        "negative_pooled_prompt_embeds": embeds[3],
    }
    given = call_of(half, **own, guidance=1.0).arguments(half)
    assert {given[name].dtype for name in own} == {torch.bfloat16}
    assert "prompt" not in given
    text, embedded = (call_of(text_to_image, **one) for one in ({"prompts": ["a fox"]}, own))
    assert torch.allclose(drawn(text, text_to_image), drawn(embedded, text_to_image), atol=1e-5)


def test_so_do_those_that_have_another_name():
    """The decoder of Stable Cascade hands ``image_embeddings`` to its denoiser as they are."""
    source = parse_source("random:StableCascadeDecoderPipeline")
    with third_party():
        pipeline = source.build().to(torch.bfloat16)
        call = PipelineCall(pipeline, source.defaults(pipeline))
    assert call.own_arguments["image_embeddings"].dtype == torch.float32
    assert call.arguments(pipeline)["image_embeddings"].dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"num_inference_steps": 3}, "num_inference_steps cannot be given as an argument: write"),
        ({"generator": 3}, "generator cannot be given as an argument: each call gets a new one"),
        ({"prompts": ["a"], "cases": [{"prompt": "b"}]}, "give prompts or cases, not both"),
        ({"cases": {"image": 1}}, "cases must be a list of mappings"),
        ({"cases": [{"name": ""}]}, r"cases\[0\]: its name must be a non-empty text"),
        ({"cases": [{"steps": 3}]}, r"cases\[0\]: steps is the same for all cases"),
        ({"cases": [{"prompt": "a", "image": 1}] * 2}, "names that differ, and 'a' stands there"),
        ({1: 2}, "its names must be texts, not 1"),
    ],
)
def test_what_is_written_wrongly_is_said_in_one_sentence(own, said):
    with pytest.raises(UsageError, match=said):
        CallDefaults.from_mapping(own, CallDefaults((), steps=1))


def test_an_argument_that_would_not_arrive_is_an_error_with_the_nearest(text_to_image):
    with pytest.raises(SourceError, match=r"takes no `imge`.*did you mean 'image'"):
        call_of(as_class(text_to_image, "StableDiffusionXLImg2ImgPipeline"), imge=picture())
    # diffusers' pipelines have **kwargs for what was deprecated, and drop all else in silence.
    with pytest.raises(SourceError, match="a call of StableDiffusionXLPipeline takes no `image`"):
        call_of(text_to_image, prompts=["a fox"], image=picture())


def test_prompts_for_a_pipeline_without_prompts_are_an_error(unconditional):
    said = "a call of DDIMPipeline takes no `prompt`, so prompts would not arrive"
    with pytest.raises(SourceError, match=said):
        call_of(unconditional, prompts=["a fox"])
    with pytest.raises(SourceError, match="takes no `height`, so height would not arrive"):
        call_of(unconditional, height=16)


def test_a_missing_argument_is_an_error_that_says_where_to_write_it(libraries):
    from diffusers import WanImageToVideoPipeline

    pipeline = WanImageToVideoPipeline.__new__(WanImageToVideoPipeline)
    with pytest.raises(SourceError, match=r"needs `image`; write it into .* \{\"image\": …\}"):
        call_of(pipeline, prompts=["a fox"])


def test_a_function_that_raises_is_named(text_to_image):
    with pytest.raises(SourceError, match="gives `strength` raised for the case 'a fox': KeyErr"):
        call_of(
            as_class(text_to_image, "StableDiffusionXLImg2ImgPipeline"),
            prompts=["a fox"],
            image=picture(),
            strength=lambda case: {}[case.name],
        )


# --- cases


def test_cases_that_differ_by_image(text_to_image):
    pipeline = as_class(text_to_image, "StableDiffusionXLImg2ImgPipeline")
    call = call_of(
        pipeline,
        cases=[{"name": "dark", "image": picture(0.1)}, {"image": picture(0.9)}],
        prompt="a fox",
        strength=0.5,
    )
    cases = image_cases(call.defaults, 3)
    assert [(case.name, case.seed) for case in cases] == [
        ("dark", 0),
        ("case 2", 0),
        ("dark", 1),
        ("case 2", 1),
    ]
    images = [drawn(call.of(case), pipeline) for case in cases[:2]]
    assert not torch.allclose(*images, atol=1e-2)
    assert call.of(cases[1]).inputs() != call.of(cases[0]).inputs()
    assert call.for_case("case 2", None, 7).arguments["image"].mean() == pytest.approx(0.9)
    with pytest.raises(SourceError, match="has no case 'bright'; it has 'dark', 'case 2'"):
        call.for_case("bright", None, 0)


def test_an_unconditional_pipeline_has_one_case_and_several_seeds(unconditional):
    call = call_of(unconditional, output_type="np")
    assert "prompt" not in call.arguments(unconditional)
    cases = image_cases(call.defaults, 3)
    assert [(case.prompt, case.name, case.seed) for case in cases] == [
        (None, "case 1", 0),
        (None, "case 1", 1),
        (None, "case 1", 2),
    ]
    first, again, other = (
        drawn(call.of(case), unconditional) for case in (cases[0], cases[0], cases[1])
    )
    assert (first == again).all()
    assert not (first == other).all()


def test_the_command_line_cannot_replace_cases():
    defaults = CallDefaults((), steps=1, cases=({"name": "a"},))
    with pytest.raises(UsageError, match="--diffspeed-prompts has nothing to replace"):
        defaults.overridden(prompts=("a fox",))


# --- signatures


def wrapped(pipeline_class):
    def loosely(self, *args, **kwargs):
        return pipeline_class.__call__(self, *args, **kwargs)

    return functools.wraps(pipeline_class.__call__)(loosely)


def test_loose_signatures_are_looked_through(text_to_image):
    parent = type(text_to_image)

    class Loose(parent):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    class Looser(Loose):
        def __call__(self, prompt, extra=1, **kwargs):
            return super().__call__(prompt, **kwargs)

    class Wrapped(parent):
        __call__ = wrapped(parent)

    class Unknown(parent.__mro__[1]):
        def __call__(self, **kwargs):
            return kwargs

    plain = call_signature(text_to_image)
    for kind in (Loose, Wrapped):
        assert call_signature(kind.__new__(kind)).parameters == plain.parameters
    looser = call_signature(Looser.__new__(Looser))
    assert set(looser.parameters) == {*plain.parameters, "extra"}
    assert looser.missing(()) == ["prompt"]
    assert not looser.open
    assert not plain.open
    assert call_signature(Unknown.__new__(Unknown)).open

    pipeline = as_class(text_to_image, Loose)
    call = call_of(pipeline, prompts=["a fox"])
    assert call.latents_from == "drawn"
    assert torch.equal(drawn(call, pipeline), drawn(call, text_to_image))
    assert count_syncs(pipeline, steps=2, height=32, width=32).steps == 2


# --- fingerprints


def test_a_fingerprint_sees_the_content_of_an_input():
    image = Image.new("RGB", (4, 4))
    other = image.copy()
    other.putpixel((3, 3), (0, 0, 1))
    tensor = torch.zeros(4)
    for one, same, different in (
        (image, image.copy(), other),
        (tensor, tensor.clone(), torch.ones(4)),
        (tensor, tensor.clone(), tensor.to(torch.bfloat16)),
        (np.zeros(4), np.zeros(4), np.zeros((2, 2))),
        ([image, "a"], [image, "a"], [other, "a"]),
        ({"a": tensor}, {"a": tensor}, {"b": tensor}),
        (picture, picture, as_class),
    ):
        assert value_fingerprint(one) == value_fingerprint(same)
        assert value_fingerprint(one) != value_fingerprint(different)
    assert value_fingerprint([1, 2.5, None, "a"]) == [1, 2.5, None, "a"]


def test_what_cannot_be_read_is_like_nothing_else():
    class Local:
        pass

    one = Local()
    assert value_fingerprint(one) != value_fingerprint(one)


# --- as a user meets it


def test_a_first_call_that_fails_says_what_it_had(pytester, run_diffspeed, monkeypatch):
    pytester.makepyfile(
        mine_inputs="""
        from pytest_diffspeed.pipelines.sources import parse_source
        from diffusers import StableDiffusionXLImg2ImgPipeline

        def image_to_image():
            parts = parse_source("random:sdxl-tiny").build().components
            return StableDiffusionXLImg2ImgPipeline(**parts, add_watermarker=False)

        image_to_image.call_defaults = {"prompts": ["a fox", "an owl"]}
        """,
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="mine_inputs:image_to_image")
        def test_it(optimized_pipeline): ...
        """,
    )
    monkeypatch.syspath_prepend(pytester.path)
    result = run_diffspeed()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*the first call failed: ValueError: *without `image`; further arguments go into*"]
    )

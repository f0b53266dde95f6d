"""Small pipelines of diffusers: named, seeded, whole, and called with their own inputs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines import zoo
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import SmallSource, parse_source
from pytest_diffspeed.pipelines.zoo import builder, parts

with third_party():
    import torch

# One of each way in which pipelines differ.  `make zoo` runs all.
SAMPLE = (
    "AllegroPipeline",
    "ChromaPipeline",
    "CogVideoXPipeline",
    "DDIMPipeline",
    "DiTPipeline",
    "KandinskyV22CombinedPipeline",
    "LTXImageToVideoPipeline",
    "MarigoldDepthPipeline",
    "SanaControlNetPipeline",
    "StableAudioPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionPipeline-ip-adapter",
    "StableDiffusionXLControlNetPipeline-two-controlnets",
    "WanPipeline-two-experts",
)


@dataclass(frozen=True)
class OneCase:
    seed: int = 0
    prompt: str = "a red apple on a wooden table"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Calls below go into diffusers; that ``build`` itself warns nothing has its own test."""
    with third_party():
        yield


def weights(pipeline: Any) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for name, value in module.named_parameters()
    }


def output(name: str) -> torch.Tensor:
    """What the first call of a new pipeline gives, as one flat tensor."""
    recipe = zoo.recipes()[name]
    pipeline = zoo.build(name)
    pipeline.set_progress_bar_config(disable=True)
    case = OneCase()
    arguments = {k: v(case) if callable(v) else v for k, v in recipe.call.items()}
    if recipe.prompted:
        arguments["prompt"] = case.prompt
    arguments["num_inference_steps"] = recipe.steps
    generator = torch.Generator().manual_seed(case.seed)
    drawn = pipeline(**arguments, generator=generator, return_dict=False)[0]
    while isinstance(drawn, (list, tuple)):
        drawn = drawn[0]
    if not isinstance(drawn, torch.Tensor):
        import numpy

        drawn = torch.from_numpy(numpy.asarray(drawn).astype("float32"))
    return drawn.float().flatten()


def test_there_are_at_least_sixty() -> None:
    assert len(zoo.names()) >= 60
    assert list(zoo.names()) == sorted(zoo.names())
    classes = {recipe.pipeline_class or name for name, recipe in zoo.recipes().items()}
    assert len(classes) >= 60


def test_every_kind_is_there() -> None:
    kinds = {recipe.kind for recipe in zoo.recipes().values()}
    assert {
        "ControlNet",
        "IP-adapter",
        "T2I-adapter",
        "class to image",
        "image to depth",
        "image to image",
        "image to video",
        "inpainting",
        "text to 3D",
        "text to audio",
        "text to image",
        "text to video",
        "unconditional",
        "upscaling",
        "video to video",
    } <= kinds


def test_every_class_is_one_of_diffusers() -> None:
    import diffusers

    for name, recipe in zoo.recipes().items():
        found = getattr(diffusers, recipe.pipeline_class or name)
        assert issubclass(found, diffusers.DiffusionPipeline)


def test_recipes_import_no_torch() -> None:
    code = (
        "import sys\n"
        "from pytest_diffspeed.pipelines import zoo\n"
        "zoo.check_name('FluxPipeline')\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_special_tokens_are_the_tokenizer_s() -> None:
    made = parts.tokenizer()()
    assert (made.bos_token_id, made.eos_token_id) == (parts.START, parts.END)
    assert len(made) < parts.VOCABULARY - 4  # the last are those that stand for images


@pytest.mark.parametrize("name", SAMPLE)
def test_it_draws_the_same_twice(name: str) -> None:
    first, second = output(name), output(name)
    assert torch.equal(first, second)
    assert first.isfinite().all()
    assert first.std() > 0


def test_weights_do_not_depend_on_the_random_state_and_leave_it() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = weights(zoo.build("ZImagePipeline"))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second = weights(zoo.build("ZImagePipeline"))
    other = weights(zoo.build("ZImagePipeline", seed=1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_no_weight_is_zero_or_left_as_the_memory_was() -> None:
    """ControlNets start with layers of zeros, and Z-Image's padding tokens with empty memory."""
    for name in ("StableDiffusionControlNetPipeline", "ZImagePipeline"):
        for where, value in weights(zoo.build(name)).items():
            assert value.isfinite().all(), where
            assert value.dim() < 2 or value.any(), where


def test_the_settings_of_torch_are_as_before() -> None:
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    zoo.build("DDIMPipeline")
    assert before == (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )


def test_shared_components_are_used_as_they_are() -> None:
    first = zoo.build("StableDiffusionPipeline")
    second = zoo.build("StableDiffusionPipeline", shared={"vae": first.vae})
    assert second.vae is first.vae
    assert second.unet is not first.unet
    assert torch.equal(second.unet.conv_in.weight, first.unet.conv_in.weight)


# --- as sources


def test_a_class_is_a_source() -> None:
    source = parse_source("random:DDIMPipeline")
    assert isinstance(source, SmallSource)
    pipeline = source.build()
    assert type(pipeline).__name__ == "DDIMPipeline"
    assert source.defaults(pipeline).steps == zoo.recipes()["DDIMPipeline"].steps


def test_the_source_calls_at_the_recipe_s_size() -> None:
    source = parse_source("random:FluxPipeline")
    defaults = source.defaults(source.build())
    assert (defaults.height, defaults.width, defaults.guidance) == (32, 32, 3.5)


def test_a_pipeline_whose_denoisers_have_names_of_their_own_is_built_and_called() -> None:
    source = parse_source("random:StableCascadeCombinedPipeline")
    pipeline = source.build()
    defaults = source.defaults(pipeline)
    call = PipelineCall(pipeline, defaults)
    assert call(pipeline).isfinite().all()


def test_an_unknown_class_gets_the_nearest_names() -> None:
    with pytest.raises(SourceError) as caught:
        parse_source("random:StableDiffusionControlNetPipelin")
    message = str(caught.value)
    assert "there is no random-weight pipeline 'StableDiffusionControlNetPipelin'" in message
    assert "did you mean 'StableDiffusionControlNetPipeline' or " in message
    assert "\n" not in message


def test_a_class_that_the_installed_diffusers_lacks_is_said() -> None:
    recipe = zoo.ZooRecipe("text to image", {}, pipeline_class="NoSuchPipeline")
    with pytest.raises(SourceError, match=r"the installed diffusers .* has no NoSuchPipeline"):
        builder.pipeline_class("x", recipe)


def test_a_package_that_is_missing_is_said() -> None:
    recipe = zoo.ZooRecipe("text to image", {}, pipeline_class="FluxPipeline", needs=("no_such",))
    with pytest.raises(SourceError, match=r"FluxPipeline cannot run without no_such.*pip install"):
        builder.pipeline_class("x", recipe)

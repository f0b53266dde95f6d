"""Pipelines of real architectures with random weights: right shapes, seeded, no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines import random_weights

with third_party():
    import torch

SIZES = {"sdxl-tiny": {}, "flux-tiny": {"height": 32, "width": 32}}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Calls below go into diffusers; that ``build`` itself warns nothing has its own test."""
    with third_party():
        yield


def parameters(pipeline: Any) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": value
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
        for name, value in module.named_parameters()
    }


def sizes(pipeline: Any) -> dict[str, int]:
    return {
        part: sum(p.numel() for p in module.parameters())
        for part, module in pipeline.components.items()
        if isinstance(module, torch.nn.Module)
    }


def images(pipeline: Any, prompt: str, **size: int) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return pipeline(
        prompt, num_inference_steps=3, generator=generator, output_type="pt", **size
    ).images


def test_names() -> None:
    assert random_weights.names() == ("flux-dev", "flux-tiny", "sdxl-base", "sdxl-tiny")


def test_an_unknown_name_lists_the_valid_ones_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'sdxl_base'.*did you mean 'sdxl-base'") as caught:
        random_weights.build("sdxl_base")
    for name in random_weights.names():
        assert name in str(caught.value)


def test_the_module_imports_no_torch() -> None:
    code = (
        "import sys, pytest_diffspeed.pipelines.random_weights as r\n"
        "r.check_name('sdxl-base')\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What the published checkpoints hold.
@pytest.mark.parametrize(
    ("name", "published"),
    [
        (
            "sdxl-base",
            {
                "unet": 2_567_463_684,
                "vae": 83_653_863,
                "text_encoder": 123_060_480,
                "text_encoder_2": 694_659_840,
            },
        ),
        (
            "flux-dev",
            {
                "transformer": 11_901_408_320,
                "vae": 83_819_683,
                "text_encoder": 123_060_480,
                "text_encoder_2": 4_762_310_656,
            },
        ),
    ],
)
def test_the_real_architectures_have_the_published_size(
    name: str, published: dict[str, int]
) -> None:
    pipeline = random_weights.build(name, device="meta", dtype=torch.bfloat16)
    assert sizes(pipeline) == published
    assert {p.dtype for p in parameters(pipeline).values()} == {torch.bfloat16}


def test_the_tiny_pipelines_are_tiny() -> None:
    for name in SIZES:
        assert sum(sizes(random_weights.build(name, device="meta")).values()) < 1_000_000


def test_the_tiny_pipelines_have_the_topology_of_the_real_ones() -> None:
    for tiny, real in (("sdxl-tiny", "sdxl-base"), ("flux-tiny", "flux-dev")):
        small, large = (random_weights.build(n, device="meta") for n in (tiny, real))
        assert type(small) is type(large)
        for part in set(small.components) - {"image_encoder", "feature_extractor"}:
            assert type(getattr(small, part)) is type(getattr(large, part))
    small, large = (random_weights.build(n, device="meta").unet for n in ("sdxl-tiny", "sdxl-base"))
    kinds = [
        [type(block) for block in (*u.down_blocks, u.mid_block, *u.up_blocks)]
        for u in (small, large)
    ]
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_images_are_finite_and_not_blank(name: str, dtype: torch.dtype) -> None:
    pipeline = random_weights.build(name, dtype=dtype)
    result = images(pipeline, "red apple", **SIZES[name])
    assert result.shape == (1, 3, 32, 32)
    assert result.isfinite().all()
    assert result.float().std() > 0.01


def test_the_prompt_has_an_effect() -> None:
    pipeline = random_weights.build("sdxl-tiny")
    assert not images(pipeline, "red apple").equal(images(pipeline, "tropical fish"))


def test_the_same_seed_gives_the_same_weights() -> None:
    with torch.random.fork_rng(devices=[]):
        first = parameters(random_weights.build("sdxl-tiny", seed=3))
        torch.manual_seed(1234)
        again = parameters(random_weights.build("sdxl-tiny", seed=3))
        other = parameters(random_weights.build("sdxl-tiny", seed=4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["unet.conv_in.weight"], other["unet.conv_in.weight"])


def test_torchs_global_state_is_left_alone() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        expected = torch.rand(3)
        torch.manual_seed(1)
        random_weights.build("sdxl-tiny", dtype=torch.bfloat16)
        assert torch.rand(3).equal(expected)
    assert torch.get_default_dtype() is torch.float32
    assert torch.empty(1).device == torch.device("cpu")


def test_the_weights_are_drawn_in_their_dtype_and_never_converted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a conversion holds the weights twice")

    monkeypatch.setattr(torch.nn.Module, "_apply", refuse)
    pipeline = random_weights.build("sdxl-tiny", dtype=torch.bfloat16)
    assert {p.dtype for p in parameters(pipeline).values()} == {torch.bfloat16}
    assert not any(m.training for m in pipeline.components.values() if hasattr(m, "training"))


def test_the_schedule_does_not_lose_precision_with_the_weights() -> None:
    full, half = (
        random_weights.build("sdxl-tiny", dtype=dtype).scheduler
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.alphas_cumprod.dtype == torch.float32
    assert half.alphas_cumprod.equal(full.alphas_cumprod)


def test_shared_components_are_used_and_change_no_other() -> None:
    whole = random_weights.build("sdxl-tiny")
    again = random_weights.build("sdxl-tiny", shared={"unet": whole.unet, "vae": whole.vae})
    assert again.unet is whole.unet
    assert again.text_encoder is not whole.text_encoder
    first, second = parameters(whole), parameters(again)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_text_encoders_understand_the_tokenizer() -> None:
    pipeline = random_weights.build("sdxl-tiny")
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        assert tokenizer.model_max_length == 77
        tokens = tokenizer(
            ["red apple", "a word " * 60],
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        assert tokens.shape == (2, 77)
        assert int(tokens.max()) < encoder.config.vocab_size
        assert encoder.config.eos_token_id == tokenizer.eos_token_id
        assert (tokens == tokenizer.eos_token_id).any(dim=1).all()
    # CLIP pools at the first end-of-text id, which is not the first token here.
    encoded = pipeline.text_encoder(tokens)
    ends = (tokens == pipeline.tokenizer.eos_token_id).int().argmax(dim=1)
    assert ends.min() > 1
    assert encoded.pooler_output.equal(encoded.last_hidden_state[torch.arange(2), ends])


def test_t5_reads_512_tokens() -> None:
    pipeline = random_weights.build("flux-tiny")
    assert pipeline.tokenizer_max_length == 77
    assert pipeline.encode_prompt("red apple", prompt_2=None)[0].shape == (1, 512, 32)


def test_a_missing_tokenizer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(random_weights, "TOKENIZER", tmp_path / "nothing")
    with pytest.raises(SourceError, match="tokenizer is missing"):
        random_weights.build("sdxl-tiny")


def test_building_warns_nothing() -> None:
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "from pytest_diffspeed.pipelines import random_weights\n"
        "random_weights.build('sdxl-tiny')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""The pipelines that techniques are tried on, each a new one, on the device of the check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

STEPS = 2
BATCH = 9
"""With guidance 18 rows in layers that see one row an image; ``torch._int_mm`` needs over 16."""


@dataclass
class Tried:
    """A pipeline and its call: ``call(pipeline)``, and ``call(pipeline, steps=…)`` shortened."""

    pipeline: Any
    call: Callable[..., object]


def from_source(text: str, device: str) -> Tried:
    """A pipeline as a session builds it."""
    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.pipelines.call import PipelineCall
    from pytest_diffspeed.pipelines.sources import parse_source

    source = parse_source(text)
    with third_party():
        pipeline = source.build()
        defaults = source.defaults(pipeline).overridden(steps=STEPS)
        if text.startswith("random:flux"):  # of itself it draws 1024 × 1024
            from dataclasses import replace

            defaults = replace(defaults, height=64, width=64)
        pipeline.to(device)
    return Tried(pipeline, PipelineCall(pipeline, defaults, defaults.prompts[0]))


def batched(tried: Tried) -> Tried:
    """The same pipeline, called for several images at once."""

    def call(pipeline: Any, *, steps: int | None = None) -> object:
        arguments = tried.call.arguments(pipeline, steps=steps)  # type: ignore[attr-defined]
        arguments["prompt"] = [arguments["prompt"]] * BATCH
        arguments["latents"] = arguments["latents"].expand(BATCH, -1, -1, -1).contiguous()
        return pipeline(**arguments)

    return Tried(tried.pipeline, call)


def stable_diffusion(device: str) -> Tried:
    """One that never calls ``set_begin_index``, so that its scheduler looks the first step up."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from pytest_diffspeed.common.quiet import third_party

    donor = from_source("random:sdxl-tiny", "cpu").pipeline
    with third_party(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=donor.text_encoder.config.hidden_size,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ).eval()
        pipeline = StableDiffusionPipeline(
            unet=unet,
            vae=donor.vae,
            text_encoder=donor.text_encoder,
            tokenizer=donor.tokenizer,
            scheduler=EulerDiscreteScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def call(pipe: Any, *, steps: int = STEPS) -> object:
        with third_party():
            return pipe(
                "a red apple",
                num_inference_steps=steps,
                generator=torch.Generator().manual_seed(0),
                output_type="pt",
                return_dict=False,
            )[0]

    return Tried(pipeline, call)


def with_wide_head(device: str) -> Tried:
    """One whose VAE attends with one head of 512, as those of SDXL and Flux do."""
    import torch
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline

    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.pipelines.call import PipelineCall

    donor = from_source("random:sdxl-tiny", "cpu")
    with third_party(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(32, 512),
            latent_channels=4,
            norm_num_groups=8,
            sample_size=16,
        ).eval()
        parts = {**donor.pipeline.components, "vae": vae}
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False).to(device)
    pipeline.set_progress_bar_config(disable=True)
    defaults = donor.call.defaults  # type: ignore[attr-defined]
    return Tried(pipeline, PipelineCall(pipeline, defaults, "a red apple"))


def toy(device: str, *, mutates: bool = False) -> Tried:
    """As little as a technique of compilation needs: it compiles in seconds.

    A pipeline in what this package reads of one.  With ``mutates`` the denoiser writes to its
    input, for which inductor gives CUDA graphs up.
    """
    import torch

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = torch.nn.Linear(32, 64), torch.nn.Linear(64, 32)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows + self.second(torch.nn.functional.silu(self.first(rows)))

    class Denoiser(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = torch.nn.Conv2d(8, 32, 3, padding=1)
            self.blocks = torch.nn.ModuleList([Block(), Block()])  # what repeats
            self.last = torch.nn.Linear(32, 8)

        def forward(self, sample: torch.Tensor) -> torch.Tensor:
            if mutates:
                sample.mul_(0.5)
            rows = self.convolution(sample).flatten(2).transpose(1, 2)
            for block in self.blocks:
                rows = block(rows)
            return self.last(rows).transpose(1, 2).reshape_as(sample)

    class Vae(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = torch.nn.Conv2d(8, 8, 3, padding=1)

        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            return self.decoder(latents).tanh()

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        unet, vae = Denoiser().eval().to(device), Vae().eval().to(device)
    start = torch.ones(2, 8, 16, 16, device=device)

    def call(pipe: Any, *, steps: int = STEPS) -> object:
        with torch.no_grad():
            sample = start.clone()
            for _ in range(steps):
                sample = sample - 0.1 * pipe.unet(sample.clone())
            return pipe.vae.decode(sample)

    components = {"unet": unet, "vae": vae}
    pipeline = SimpleNamespace(
        **components, components=components, device=torch.device(device), scheduler=None
    )
    return Tried(pipeline, call)

"""Pipelines that are counted: real ones, and some with a fault planted."""

import json

import torch

from pytest_diffspeed.pipelines import random_weights
from pytest_diffspeed.pipelines.sources import parse_source


def demo():
    """With real weights, where ``demo`` is counted with none."""
    return parse_source("demo").build()


def reads_a_value():
    """The denoiser asks for a value in its forward."""
    pipeline = demo()
    block = pipeline.unet.mid_block
    forward = block.forward

    def asking(hidden_states, *args, **kwargs):
        if hidden_states.max().item() > 1e9:  # the line of the fault
            raise OverflowError
        return forward(hidden_states, *args, **kwargs)

    block.forward = asking
    return pipeline


def guided_twice():
    """The denoiser is called once more in each step, and nobody looks at what comes out."""
    pipeline = demo()

    class Twice(type(pipeline.unet)):
        def __call__(self, *args, **kwargs):
            super().__call__(*args, **kwargs)
            return super().__call__(*args, **kwargs)

    pipeline.unet.__class__ = Twice
    return pipeline


def small():
    return parse_source("random:DDPMPipeline").build()


def every_other_call():
    """The denoiser counts its calls, and in every other one it does its work twice."""
    pipeline = small()

    class Counting(type(pipeline.unet)):
        def forward(self, *args, **kwargs):
            self.calls = getattr(self, "calls", 0) + 1
            if self.calls % 2 == 0:
                super().forward(*args, **kwargs)
            return super().forward(*args, **kwargs)

    pipeline.unet.__class__ = Counting
    return pipeline


def counts_its_calls():
    """A hook counts the calls of the denoiser, and nothing depends on it."""
    pipeline = small()
    seen = {"calls": 0}

    def hook(module, args):
        seen["calls"] += 1

    pipeline.unet.register_forward_pre_hook(hook)
    return pipeline


def once_more():
    """The denoiser runs once more behind the last step."""
    pipeline = small()

    class Twice(type(pipeline)):
        @torch.no_grad()
        def __call__(self, *args, **kwargs):
            images = super().__call__(*args, **kwargs)
            size = self.unet.config.sample_size
            self.unet(torch.zeros(1, self.unet.config.in_channels, size, size), torch.tensor(0))
            return images

    pipeline.__class__ = Twice
    return pipeline


def in_inference_mode():
    """The denoiser opens ``torch.inference_mode`` by itself."""
    pipeline = small()
    pipeline.unet.forward = torch.inference_mode()(pipeline.unet.forward)
    return pipeline


def deep_unet():
    """A UNet with four transformers of 10 equal blocks each, without weights."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        made = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            transformer_layers_per_block=(1, 10),
            attention_head_dim=(2, 4),
            cross_attention_dim=32,
            norm_num_groups=8,
            use_linear_projection=True,
        )
    return made.eval()


def deep_flux():
    """A Flux transformer with runs of 16 and of 20 equal blocks, without weights."""
    from diffusers import FluxTransformer2DModel

    config = json.loads((random_weights.CONFIGS / "flux-tiny/transformer/config.json").read_text())
    with torch.device("meta"):
        made = FluxTransformer2DModel.from_config(
            {**config, "num_layers": 16, "num_single_layers": 20}
        )
    return made.eval()

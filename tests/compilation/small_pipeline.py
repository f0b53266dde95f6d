"""Real pipelines of few blocks, where each block is traced: dynamo needs a second for them.

SDXL whose UNet and VAE have one block each, without attention (``small_pipeline:build``) and with
(``small_pipeline:attending``), and Flux with one block of each kind (``small_pipeline:flux``).
"""

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel, UNet2DConditionModel

from pytest_diffspeed.pipelines.sources import parse_source


def build():
    return _sdxl("DownBlock2D", "UpBlock2D", attention=False)


def attending():
    return _sdxl("CrossAttnDownBlock2D", "CrossAttnUpBlock2D", attention=True)


def _sdxl(down, up, *, attention):
    pipeline = parse_source("random:sdxl-tiny").build()
    full = pipeline.unet.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline.unet = UNet2DConditionModel.from_config(
            full,
            block_out_channels=[8],
            norm_num_groups=4,
            layers_per_block=1,
            transformer_layers_per_block=1,
            num_attention_heads=None,
            attention_head_dim=4,
            down_block_types=[down],
            up_block_types=[up],
            mid_block_type=None,
        )
        pipeline.vae = AutoencoderKL.from_config(
            pipeline.vae.config,
            block_out_channels=[8],
            norm_num_groups=4,
            layers_per_block=1,
            down_block_types=["DownEncoderBlock2D"],
            up_block_types=["UpDecoderBlock2D"],
            mid_block_add_attention=attention,
        )
    pipeline.vae_scale_factor = 1
    pipeline.image_processor.register_to_config(vae_scale_factor=1)
    return pipeline


build.call_defaults = attending.call_defaults = {
    "prompts": ["a fox"],
    "steps": 1,
    "height": 16,
    "width": 16,
    "guidance": 5.0,
}


def flux():
    full = parse_source("random:flux-tiny").build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel.from_config(
            full.transformer.config, num_layers=1, num_single_layers=1
        )
        vae = AutoencoderKL.from_config(
            full.vae.config,
            block_out_channels=[8],
            layers_per_block=1,
            down_block_types=["DownEncoderBlock2D"],
            up_block_types=["UpDecoderBlock2D"],
        )
    parts = {**full.components, "transformer": transformer.eval(), "vae": vae.eval()}
    pipeline = FluxPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


flux.call_defaults = {"prompts": ["a fox"], "steps": 1, "height": 16, "width": 16}

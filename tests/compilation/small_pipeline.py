"""A real SDXL pipeline whose UNet and VAE have one small block each: dynamo traces it in a second.

Used as the pipeline source ``small_pipeline:build``.
"""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from pytest_diffspeed.pipelines.sources import parse_source


def build():
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
            down_block_types=["DownBlock2D"],
            up_block_types=["UpBlock2D"],
            mid_block_type=None,
        )
        pipeline.vae = AutoencoderKL.from_config(
            pipeline.vae.config,
            block_out_channels=[8],
            norm_num_groups=4,
            layers_per_block=1,
            down_block_types=["DownEncoderBlock2D"],
            up_block_types=["UpDecoderBlock2D"],
            mid_block_add_attention=False,
        )
    pipeline.vae_scale_factor = 1
    pipeline.image_processor.register_to_config(vae_scale_factor=1)
    return pipeline


build.call_defaults = {"prompts": ["a fox"], "steps": 1, "height": 16, "width": 16, "guidance": 5.0}

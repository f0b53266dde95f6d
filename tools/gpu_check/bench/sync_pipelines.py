"""Small pipelines with random weights, of kinds that wait for the device in different places.

Shapes are as small as each architecture allows; all text encoders read the demo's tokenizer.  No
network is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from tiny_components import clip, gemma, t5, tokenizer, vae

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.sources import parse_source


@dataclass(frozen=True)
class Kind:
    """``make()`` gives the pipeline anew; ``arguments`` are those of a call of it.

    ``why`` says what its places of waiting are like.
    """

    why: str
    make: Callable[[], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _stable_diffusion(scheduler: str = "DDIMScheduler", cls: str = "", **unet: Any) -> Any:
    import diffusers

    parts = {
        "unet": diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16),
            layers_per_block=1,
            sample_size=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=2,
            norm_num_groups=2,
            **unet,
        ),
        "vae": vae(),
        "text_encoder": clip(),
        "tokenizer": tokenizer(),
        "scheduler": getattr(diffusers, scheduler)(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }
    return getattr(diffusers, cls or "StableDiffusionPipeline")(**parts)


def _of_source(source: str, cls: str = "") -> Any:
    import diffusers

    pipeline = parse_source(source).build()
    return getattr(diffusers, cls)(**pipeline.components) if cls else pipeline


def _sdxl_image_to_image() -> Any:
    import diffusers

    pipeline = parse_source("random:sdxl-tiny").build()
    return diffusers.StableDiffusionXLImg2ImgPipeline(**pipeline.components, add_watermarker=False)


def _sd3() -> Any:
    import diffusers

    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=32,
            patch_size=1,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=64,
            pooled_projection_dim=64,
            out_channels=4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=vae(quant=False, shift=0.06),
        text_encoder=clip(projection=True),
        tokenizer=tokenizer(),
        text_encoder_2=clip(projection=True),
        tokenizer_2=tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )


def _pixart() -> Any:
    import diffusers

    return diffusers.PixArtSigmaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
        ),
        vae=vae(),
        scheduler=diffusers.DDIMScheduler(),
        text_encoder=t5(),
        tokenizer=tokenizer(),
    )


def _sana() -> Any:
    import diffusers

    compressing = diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=32,
        ),
        vae=compressing,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder=gemma(),
        tokenizer=tokenizer(),
    )


def _lumina2() -> Any:
    import diffusers

    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=4,
            patch_size=2,
            in_channels=4,
            hidden_size=8,
            num_layers=1,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=16,
            ffn_dim_multiplier=None,
            axes_dim_rope=(4, 2, 2),
            cap_feat_dim=8,
        ),
        vae=vae(quant=False, shift=0.06),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=gemma(),
        tokenizer=tokenizer(),
    )


def _chroma() -> Any:
    import diffusers

    return diffusers.ChromaPipeline(
        transformer=diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=(4, 4, 8),
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
        vae=vae(quant=False, shift=0.06),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=t5(),
        tokenizer=tokenizer(),
        image_encoder=None,
        feature_extractor=None,
    )


def _wan() -> Any:
    import diffusers

    return diffusers.WanPipeline(
        transformer=diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=32,
            freq_dim=256,
            ffn_dim=32,
            num_layers=1,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ),
        vae=diffusers.AutoencoderKLWan(
            base_dim=3,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        scheduler=diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        text_encoder=t5(),
        tokenizer=tokenizer(),
    )


def _unconditional(cls: str) -> Any:
    import diffusers

    unet = diffusers.UNet2DModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )
    scheduler = getattr(diffusers, cls.replace("Pipeline", "Scheduler"))()
    return getattr(diffusers, cls)(unet=unet, scheduler=scheduler)


def _image(size: int = 32) -> Any:
    from PIL import Image

    return Image.new("RGB", (size, size), (120, 60, 200))


_SMALL = {"height": 32, "width": 32}
FIRST = {
    "demo": Kind("the trained pipeline of this package", lambda: _of_source("demo")),
    "random:sdxl-tiny": Kind("SDXL", lambda: _of_source("random:sdxl-tiny")),
    "random:flux-tiny": Kind("Flux", lambda: _of_source("random:flux-tiny")),
    "sd15": Kind("tables on the CPU, and a begin index that is searched for", _stable_diffusion),
}
OTHERS = {
    "sd3": Kind("no begin index", _sd3, _SMALL),
    "pixart": Kind("DDIM with a transformer", _pixart, {"use_resolution_binning": False, **_SMALL}),
    "sdxl_img2img": Kind("starts in the middle", _sdxl_image_to_image, {"strength": 0.8}),
    "ddpm": Kind("noise of each step", lambda: _unconditional("DDPMPipeline")),
    "ddim": Kind("no text", lambda: _unconditional("DDIMPipeline")),
    "sd_pndm": Kind("a scheduler that keeps state", lambda: _stable_diffusion("PNDMScheduler")),
    "lcm": Kind(
        "noise after each step",
        lambda: _stable_diffusion(
            "LCMScheduler", "LatentConsistencyModelPipeline", time_cond_proj_dim=32
        ),
    ),
    "sana": Kind(
        "linear attention", _sana, {"complex_human_instruction": None, "max_sequence_length": 16}
    ),
    "chroma": Kind(
        "copies to the device in the denoiser", _chroma, {"max_sequence_length": 48, **_SMALL}
    ),
    "lumina2": Kind("reads of lengths in the denoiser", _lumina2, _SMALL),
    "wan": Kind(
        "video; a linear system solved in each step",
        _wan,
        {"height": 16, "width": 16, "num_frames": 9, "max_sequence_length": 16},
    ),
}


def make(kind: Kind) -> Any:
    """The pipeline with the same weights each time, in evaluation mode, without a bar."""
    from pytest_diffspeed.pipelines.components import modules

    with third_party(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        pipeline = kind.make()
        pipeline.set_progress_bar_config(disable=True)
        for part in modules(pipeline).values():
            part.eval()
    return pipeline


def arguments(name: str, kind: Kind) -> dict[str, Any]:
    """What a call of it is given beside prompt, steps and output."""
    given = dict(kind.arguments)
    if "img2img" in name:
        given["image"] = _image()
    return given

"""CogVideoX, Mochi, Hunyuan Video and Allegro: transformers over frames."""

from typing import Any

from ..inputs import frames, image
from ..parts import clip_text, flow, language_model, model, scheduler, t5, tokenizer
from ..recipe import ZooRecipe
from .pixart import T5
from .wan import CLIP, SQUARE

_COG_VAE = model(
    "AutoencoderKLCogVideoX",
    block_out_channels=(8, 8, 8, 8),
    down_block_types=("CogVideoXDownBlock3D",) * 4,
    up_block_types=("CogVideoXUpBlock3D",) * 4,
    latent_channels=4,
    layers_per_block=1,
    norm_num_groups=2,
    temporal_compression_ratio=4,
)
_COG_SHAPE = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 8,
    "text_embed_dim": 32,
    "num_layers": 1,
    "sample_width": 4,
    "sample_height": 4,
    "sample_frames": 9,
    "patch_size": 2,
    "temporal_compression_ratio": 4,
    "max_text_seq_length": 16,
}
_COG = {
    **T5,
    "transformer": model("CogVideoXTransformer3DModel", **_COG_SHAPE),
    "vae": _COG_VAE,
    "scheduler": scheduler("CogVideoXDDIMScheduler"),
}
_HUNYUAN_VAE = model(
    "AutoencoderKLHunyuanVideo",
    latent_channels=4,
    down_block_types=("HunyuanVideoDownBlock3D",) * 4,
    up_block_types=("HunyuanVideoUpBlock3D",) * 4,
    block_out_channels=(8, 8, 8, 8),
    layers_per_block=1,
    norm_num_groups=4,
    spatial_compression_ratio=8,
    temporal_compression_ratio=4,
)
_HUNYUAN = {
    "text_encoder": language_model("LlamaModel"),
    "tokenizer": tokenizer(16),
    "text_encoder_2": clip_text(8),
    "tokenizer_2": tokenizer(16),
    "transformer": model(
        "HunyuanVideoTransformer3DModel",
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=16,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 4, 4),
    ),
    "vae": _HUNYUAN_VAE,
    "scheduler": flow(shift=7.0),
}


def _bytes() -> object:
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


def _guider() -> object:
    from diffusers.guiders import ClassifierFreeGuidance

    return ClassifierFreeGuidance(guidance_scale=4.0)


def _small_tiles(pipeline: Any) -> None:
    """Allegro's VAE decodes in tiles only, of 24 frames of 320 pixels; of less it makes zeros."""
    vae = pipeline.vae
    vae.enable_tiling()
    vae.tile_overlap_t, vae.tile_overlap_h, vae.tile_overlap_w = 4, 16, 16
    vae.kernel, vae.stride = (8, 32, 32), (4, 16, 16)


PIPELINES = {
    "HunyuanVideo15Pipeline": ZooRecipe(
        "text to video",
        {
            "text_encoder": language_model(
                "Qwen2_5_VLTextModel",
                rope_parameters={
                    "rope_type": "default",
                    "rope_theta": 1000000.0,
                    "mrope_section": [1, 1, 2],
                },
            ),
            "tokenizer": tokenizer(1000, chat=True),
            "text_encoder_2": t5(32),
            "tokenizer_2": _bytes,
            "transformer": model(
                "HunyuanVideo15Transformer3DModel",
                in_channels=9,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=8,
                num_layers=1,
                num_refiner_layers=1,
                mlp_ratio=2.0,
                patch_size=1,
                patch_size_t=1,
                text_embed_dim=16,
                text_embed_2_dim=32,
                image_embed_dim=12,
                rope_axes_dim=(2, 2, 4),
                target_size=16,
                task_type="t2v",
            ),
            "vae": model(
                "AutoencoderKLHunyuanVideo15",
                latent_channels=4,
                block_out_channels=(16, 16),
                layers_per_block=1,
                spatial_compression_ratio=4,
                temporal_compression_ratio=2,
                downsample_match_channel=False,
                upsample_match_channel=False,
            ),
            "scheduler": flow(shift=7.0),
            "guider": _guider,
        },
        {"height": 16, "width": 16, "num_frames": 5},
    ),
    "CogVideoXPipeline": ZooRecipe("text to video", _COG, CLIP),
    "CogVideoXImageToVideoPipeline": ZooRecipe(
        "image to video",
        {
            **_COG,
            "transformer": model(
                "CogVideoXTransformer3DModel",
                **{
                    **_COG_SHAPE,
                    "in_channels": 8,
                    "use_rotary_positional_embeddings": True,
                    "use_learned_positional_embeddings": True,
                },
            ),
        },
        {**CLIP, "image": image()},
    ),
    "CogVideoXVideoToVideoPipeline": ZooRecipe(
        "video to video",
        _COG,
        {
            **SQUARE,
            "max_sequence_length": 16,
            "video": frames(9),
            "strength": 1.0,
        },
    ),
    "MochiPipeline": ZooRecipe(
        "text to video",
        {
            **T5,
            "transformer": model(
                "MochiTransformer3DModel",
                patch_size=2,
                num_attention_heads=2,
                attention_head_dim=8,
                num_layers=2,
                pooled_projection_dim=16,
                in_channels=12,
                out_channels=None,
                qk_norm="rms_norm",
                text_embed_dim=32,
                time_embed_dim=4,
                activation_fn="swiglu",
                max_sequence_length=16,
            ),
            "vae": model(
                "AutoencoderKLMochi",
                latent_channels=12,
                out_channels=3,
                encoder_block_out_channels=(32, 32, 32, 32),
                decoder_block_out_channels=(32, 32, 32, 32),
                layers_per_block=(1, 1, 1, 1, 1),
                latents_mean=[0.0] * 12,
                latents_std=[1.0] * 12,
            ),
            "scheduler": flow(),
        },
        {**CLIP, "num_frames": 7},
    ),
    "HunyuanVideoPipeline": ZooRecipe(
        "text to video",
        _HUNYUAN,
        {**CLIP, "prompt_template": {"template": "{}", "crop_start": 0}},
    ),
    "AllegroPipeline": ZooRecipe(
        "text to video",
        {
            **T5,
            "transformer": model(
                "AllegroTransformer3DModel",
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                cross_attention_dim=24,
                sample_width=8,
                sample_height=8,
                sample_frames=8,
                caption_channels=32,
            ),
            "vae": model(
                "AutoencoderKLAllegro",
                block_out_channels=(8, 8, 8, 8),
                down_block_types=("AllegroDownBlock3D",) * 4,
                up_block_types=("AllegroUpBlock3D",) * 4,
                latent_channels=4,
                layers_per_block=1,
                norm_num_groups=2,
                temporal_compression_ratio=4,
            ),
            "scheduler": scheduler("DDIMScheduler"),
        },
        {**CLIP, "num_frames": 8},
        adapted=_small_tiles,
    ),
}

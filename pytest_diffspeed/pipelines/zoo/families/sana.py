"""Sana and Sana-Sprint: linear attention on strongly compressed latents."""

from ..inputs import image
from ..parts import flow, model, scheduler
from ..recipe import ZooRecipe
from .pixart import GEMMA
from .stable_diffusion_3 import SQUARE

_SANA_SHAPE = {
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 1,
    "num_attention_heads": 2,
    "attention_head_dim": 4,
    "num_cross_attention_heads": 2,
    "cross_attention_head_dim": 4,
    "cross_attention_dim": 8,
    "caption_channels": 8,
    "sample_size": 32,
}
DC_VAE = model(
    "AutoencoderDC",
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
_SANA = {
    **GEMMA,
    "transformer": model("SanaTransformer2DModel", **_SANA_SHAPE),
    "vae": DC_VAE,
    "scheduler": flow(shift=7.0),
}
_SANA_CALL = {
    **SQUARE,
    "max_sequence_length": 16,
    "complex_human_instruction": None,
    "use_resolution_binning": False,
}
_SPRINT = {
    **_SANA,
    "transformer": model(
        "SanaTransformer2DModel",
        **_SANA_SHAPE,
        qk_norm="rms_norm_across_heads",
        guidance_embeds=True,
    ),
    "scheduler": scheduler("SCMScheduler"),
}

PIPELINES = {
    "SanaPipeline": ZooRecipe("text to image", _SANA, _SANA_CALL),
    "SanaSprintPipeline": ZooRecipe(
        "text to image", _SPRINT, {**_SANA_CALL, "intermediate_timesteps": None}
    ),
    "SanaSprintImg2ImgPipeline": ZooRecipe(
        "image to image",
        _SPRINT,
        {**_SANA_CALL, "image": image(), "strength": 0.8, "intermediate_timesteps": None},
    ),
    "SanaControlNetPipeline": ZooRecipe(
        "ControlNet",
        {**_SANA, "controlnet": model("SanaControlNetModel", **_SANA_SHAPE)},
        {**_SANA_CALL, "control_image": image()},
    ),
}

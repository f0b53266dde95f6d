"""LTX: text, images and conditions to video."""

from ..inputs import image
from ..parts import flow, model
from ..recipe import Recipe
from .pixart import T5
from .wan import CLIP

_LTX_VAE = model(
    "AutoencoderKLLTXVideo",
    latent_channels=8,
    block_out_channels=(8, 8, 8, 8),
    decoder_block_out_channels=(8, 8, 8, 8),
    layers_per_block=(1,) * 5,
    decoder_layers_per_block=(1,) * 5,
    spatio_temporal_scaling=(True, True, False, False),
    decoder_spatio_temporal_scaling=(True, True, False, False),
    decoder_inject_noise=(False,) * 5,
    upsample_residual=(False,) * 4,
    upsample_factor=(1,) * 4,
    timestep_conditioning=False,
    patch_size=1,
    patch_size_t=1,
    encoder_causal=True,
    decoder_causal=False,
)
_LTX = {
    **T5,
    "transformer": model(
        "LTXVideoTransformer3DModel",
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=32,
    ),
    "vae": _LTX_VAE,
    "scheduler": flow(),
}

PIPELINES = {
    "LTXPipeline": Recipe("text to video", _LTX, CLIP),
    "LTXImageToVideoPipeline": Recipe("image to video", _LTX, {**CLIP, "image": image()}),
    "LTXConditionPipeline": Recipe("image to video", _LTX, {**CLIP, "image": image()}),
}

"""Flux, Flux.2, Chroma and Bria: transformers over packed latents with rotary positions."""

from typing import Any

from ..inputs import image, mask
from ..parts import Part, clip_text, flow, flow_vae, language_model, model, nothing, t5, tokenizer
from ..recipe import ZooRecipe

_ROTARY = {"attention_head_dim": 16, "num_attention_heads": 2, "axes_dims_rope": (4, 6, 6)}
_DEPTH = {"num_layers": 1, "num_single_layers": 1, "patch_size": 1}
_PACKED = 16  # 2 × 2 latents of 4 channels


def _flux(class_name: str = "FluxTransformer2DModel", /, **values: Any) -> Part:
    shared = {
        **_ROTARY,
        **_DEPTH,
        "in_channels": _PACKED,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 8,
    }
    return model(class_name, **{**shared, **values})


TEXT = {
    "text_encoder": clip_text(),
    "tokenizer": tokenizer(16),
    "text_encoder_2": t5(),
    "tokenizer_2": tokenizer(16),
}
BASE = {
    **TEXT,
    "transformer": _flux(guidance_embeds=True),
    "vae": flow_vae(),
    "scheduler": flow(),
}
_VISION = {"image_encoder": nothing, "feature_extractor": nothing}
CALL = {"guidance_scale": 3.5, "max_sequence_length": 16}
SQUARE = {**CALL, "height": 32, "width": 32}
_CONTROL = {**BASE, "transformer": _flux(in_channels=2 * _PACKED, out_channels=_PACKED)}
_CONTROLNET = {**BASE, "controlnet": _flux("FluxControlNetModel")}

_FLUX2 = {
    "transformer": model(
        "Flux2Transformer2DModel",
        **_DEPTH,
        in_channels=_PACKED,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        timestep_guidance_channels=32,
        axes_dims_rope=(4, 4, 4, 4),
    ),
    "vae": model(
        "AutoencoderKLFlux2",
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    ),
    "scheduler": flow(),
}
_KLEIN = {
    **_FLUX2,
    "text_encoder": language_model("Qwen3ForCausalLM"),
    "tokenizer": tokenizer(32, chat=True),
}
_KLEIN_CALL = {
    "height": 32,
    "width": 32,
    "guidance_scale": 4.0,
    "max_sequence_length": 32,
    "text_encoder_out_layers": (1,),
}

_CHROMA = {
    "text_encoder": t5(),
    "tokenizer": tokenizer(16),
    "transformer": model(
        "ChromaTransformer2DModel",
        **_ROTARY,
        **_DEPTH,
        in_channels=_PACKED,
        joint_attention_dim=32,
        approximator_num_channels=16,
        approximator_hidden_dim=16,
        approximator_layers=1,
    ),
    "vae": flow_vae(),
    "scheduler": flow(),
    **_VISION,
}
_BRIA = {
    "text_encoder": t5(),
    "tokenizer": tokenizer(16),
    "transformer": model(
        "BriaTransformer2DModel",
        **_DEPTH,
        in_channels=_PACKED,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        axes_dims_rope=(0, 4, 4),
    ),
    "vae": flow_vae(use_quant_conv=True, use_post_quant_conv=True, shift_factor=0),
    "scheduler": flow(),
    **_VISION,
}

PIPELINES = {
    "FluxPipeline": ZooRecipe("text to image", {**BASE, **_VISION}, SQUARE),
    "FluxImg2ImgPipeline": ZooRecipe(
        "image to image", {**BASE, **_VISION}, {**SQUARE, "image": image(), "strength": 1.0}
    ),
    "FluxInpaintPipeline": ZooRecipe(
        "inpainting",
        {**BASE, **_VISION},
        {**SQUARE, "image": image(), "mask_image": mask(), "strength": 1.0},
    ),
    "FluxFillPipeline": ZooRecipe(
        "inpainting",
        {
            **BASE,
            # The latents, the masked image's, and the mask: 2 × 2 × 2 × 2 of its pixels.
            "transformer": _flux(
                in_channels=2 * _PACKED + 16, out_channels=_PACKED, guidance_embeds=True
            ),
        },
        {**SQUARE, "image": image(), "mask_image": mask()},
    ),
    "FluxKontextPipeline": ZooRecipe(
        "image to image",
        {**BASE, **_VISION},
        {**SQUARE, "image": image(), "max_area": 32 * 32, "_auto_resize": False},
    ),
    "FluxControlPipeline": ZooRecipe(
        "image to image", _CONTROL, {**SQUARE, "control_image": image()}
    ),
    "FluxControlNetPipeline": ZooRecipe(
        "ControlNet", _CONTROLNET, {**SQUARE, "control_image": image()}
    ),
    "FluxControlNetImg2ImgPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLNET,
        {**SQUARE, "image": image(), "control_image": image(), "strength": 1.0},
    ),
    "FluxControlNetInpaintPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLNET,
        {
            **SQUARE,
            "image": image(),
            "mask_image": mask(),
            "control_image": image(),
            "strength": 1.0,
        },
    ),
    "Flux2KleinPipeline": ZooRecipe("text to image", _KLEIN, _KLEIN_CALL),
    "Flux2KleinPipeline-edit": ZooRecipe(
        "image to image",
        _KLEIN,
        {**_KLEIN_CALL, "image": image(64)},
        pipeline_class="Flux2KleinPipeline",
    ),
    "ChromaPipeline": ZooRecipe("text to image", _CHROMA, SQUARE),
    "ChromaImg2ImgPipeline": ZooRecipe(
        "image to image", _CHROMA, {**SQUARE, "image": image(), "strength": 1.0}
    ),
    "BriaPipeline": ZooRecipe("text to image", _BRIA, SQUARE),
}

"""Stable Diffusion XL and Kolors' neighbours: two text encoders and the size of the image."""

from typing import Any

from ..inputs import image, mask
from ..parts import clip_text, controlnet, nothing, scheduler, several, tokenizer, unet, vae
from ..recipe import ZooRecipe

_SIZED: dict[str, Any] = {
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "transformer_layers_per_block": (1, 2),
    # Six sizes of 8 each, and the pooled text embedding.
    "projection_class_embeddings_input_dim": 6 * 8 + 16,
    # Two text encoders, side by side.
    "cross_attention_dim": 8 + 16,
}
EULER = scheduler(
    "EulerDiscreteScheduler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    steps_offset=1,
    timestep_spacing="leading",
)
TEXT = {
    "text_encoder": clip_text(),
    "tokenizer": tokenizer(16),
    "text_encoder_2": clip_text(16, projected=True),
    "tokenizer_2": tokenizer(16),
}
BASE = {
    **TEXT,
    "vae": vae(),
    "scheduler": EULER,
    "unet": unet(**_SIZED),
    "image_encoder": nothing,
    "feature_extractor": nothing,
}
UNMARKED = {"add_watermarker": False}
GUIDED = {"guidance_scale": 6.0}
SQUARE = {**GUIDED, "height": 32, "width": 32}
CONTROLNET = controlnet(**_SIZED)
_CONTROLLED = {**BASE, "controlnet": CONTROLNET}
_UNION = {
    **BASE,
    "controlnet": controlnet(
        "ControlNetUnionModel", **_SIZED, num_trans_channel=8, num_trans_head=2, num_proj_channel=8
    ),
}

PIPELINES = {
    "StableDiffusionXLPipeline": ZooRecipe("text to image", BASE, SQUARE, UNMARKED),
    "StableDiffusionXLImg2ImgPipeline": ZooRecipe(
        "image to image", BASE, {**GUIDED, "image": image(), "strength": 1.0}, UNMARKED
    ),
    "StableDiffusionXLInpaintPipeline": ZooRecipe(
        "inpainting",
        {**BASE, "unet": unet(**_SIZED, in_channels=9)},
        {**SQUARE, "image": image(), "mask_image": mask(), "strength": 1.0},
        UNMARKED,
    ),
    "StableDiffusionXLInstructPix2PixPipeline": ZooRecipe(
        "image to image",
        {
            **{name: BASE[name] for name in BASE if not name.startswith(("image", "feature"))},
            "unet": unet(**_SIZED, in_channels=8),
        },
        {**SQUARE, "image": image(), "image_guidance_scale": 1.5},
        UNMARKED,
    ),
    "StableDiffusionXLPAGPipeline": ZooRecipe(
        "text to image",
        BASE,
        {**SQUARE, "pag_scale": 3.0},
        {**UNMARKED, "pag_applied_layers": ["mid"]},
    ),
    "StableDiffusionXLControlNetPipeline": ZooRecipe(
        "ControlNet", _CONTROLLED, {**SQUARE, "image": image()}, UNMARKED
    ),
    "StableDiffusionXLControlNetPipeline-two-controlnets": ZooRecipe(
        "ControlNet",
        {
            **BASE,
            "controlnet": several("MultiControlNetModel", "diffusers", CONTROLNET, CONTROLNET),
        },
        {**SQUARE, "image": lambda case: [image()(case), image()(case)]},
        UNMARKED,
        pipeline_class="StableDiffusionXLControlNetPipeline",
    ),
    "StableDiffusionXLControlNetImg2ImgPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLLED,
        {**SQUARE, "image": image(), "control_image": image(), "strength": 1.0},
        UNMARKED,
    ),
    "StableDiffusionXLControlNetInpaintPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLLED,
        {
            **SQUARE,
            "image": image(),
            "control_image": image(),
            "mask_image": mask(),
            "strength": 1.0,
        },
        UNMARKED,
    ),
    "StableDiffusionXLControlNetUnionPipeline": ZooRecipe(
        "ControlNet",
        _UNION,
        {**SQUARE, "control_image": lambda case: [image()(case)], "control_mode": [0]},
        UNMARKED,
    ),
    "StableDiffusionXLControlNetPAGPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLLED,
        {**SQUARE, "image": image(), "pag_scale": 3.0},
        {**UNMARKED, "pag_applied_layers": ["mid"]},
    ),
}

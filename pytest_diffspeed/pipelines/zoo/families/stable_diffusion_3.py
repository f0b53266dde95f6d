"""Stable Diffusion 3: three text encoders and a joint transformer."""

from ..inputs import image, mask
from ..parts import clip_text, flow, flow_vae, model, nothing, t5, tokenizer
from ..recipe import ZooRecipe

SIZE = {"height": 32, "width": 32}
SQUARE = {**SIZE, "guidance_scale": 4.0}
_SD3 = {
    "sample_size": 16,
    "patch_size": 1,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "caption_projection_dim": 32,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 16,
}
SD3 = {
    "text_encoder": clip_text(projected=True),
    "tokenizer": tokenizer(16),
    "text_encoder_2": clip_text(projected=True),
    "tokenizer_2": tokenizer(16),
    "text_encoder_3": t5(),
    "tokenizer_3": tokenizer(16),
    "transformer": model("SD3Transformer2DModel", **_SD3),
    "vae": flow_vae(),
    "scheduler": flow(),
    "image_encoder": nothing,
    "feature_extractor": nothing,
}
_SD3_CALL = {**SQUARE, "max_sequence_length": 16}

PIPELINES = {
    "StableDiffusion3Pipeline": ZooRecipe("text to image", SD3, _SD3_CALL),
    "StableDiffusion3Img2ImgPipeline": ZooRecipe(
        "image to image", SD3, {**_SD3_CALL, "image": image(), "strength": 1.0}
    ),
    "StableDiffusion3InpaintPipeline": ZooRecipe(
        "inpainting",
        {
            **SD3,
            "transformer": model(
                "SD3Transformer2DModel", **{**_SD3, "in_channels": 16, "out_channels": 16}
            ),
            "vae": flow_vae(16),
        },
        {**_SD3_CALL, "image": image(), "mask_image": mask(), "strength": 1.0},
    ),
    "StableDiffusion3PAGPipeline": ZooRecipe(
        "text to image",
        {name: part for name, part in SD3.items() if part is not nothing},
        {**_SD3_CALL, "pag_scale": 3.0},
        {"pag_applied_layers": ["blocks.0"]},
    ),
    "StableDiffusion3ControlNetPipeline": ZooRecipe(
        "ControlNet",
        {**SD3, "controlnet": model("SD3ControlNetModel", **{**_SD3, "num_layers": 1})},
        {**_SD3_CALL, "control_image": image()},
    ),
}

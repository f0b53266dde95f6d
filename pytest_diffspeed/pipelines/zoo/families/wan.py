"""Wan and SkyReels: one transformer or two, for early and for late steps."""

from ..inputs import frames, image, masks, normal
from ..parts import (
    clip_image,
    clip_processor,
    flow,
    model,
    nothing,
    scheduler,
    t5,
    tokenizer,
    wan_vae,
)
from ..recipe import ZooRecipe

SQUARE = {"height": 32, "width": 32, "guidance_scale": 5.0}
CLIP = {**SQUARE, "num_frames": 9, "max_sequence_length": 16}
_WAN_SHAPE = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}
_WAN_MODEL = model("WanTransformer3DModel", **_WAN_SHAPE)
_UNIPC = scheduler(
    "UniPCMultistepScheduler",
    prediction_type="flow_prediction",
    use_flow_sigmas=True,
    flow_shift=3.0,
)
_UMT5 = {"text_encoder": t5(class_name="UMT5EncoderModel"), "tokenizer": tokenizer(16)}
_WAN = {
    **_UMT5,
    "vae": wan_vae(),
    "scheduler": _UNIPC,
    "transformer": _WAN_MODEL,
}
_WAN_IMAGE = {
    **_WAN,
    "scheduler": flow(shift=7.0),
    "transformer": model(
        "WanTransformer3DModel", **{**_WAN_SHAPE, "in_channels": 36, "image_dim": 8}
    ),
    "image_encoder": clip_image(8),
    "image_processor": clip_processor(),
}
_WAN_22_IMAGE = {
    **_WAN,
    "transformer": model("WanTransformer3DModel", **{**_WAN_SHAPE, "in_channels": 36}),
    "transformer_2": model("WanTransformer3DModel", **{**_WAN_SHAPE, "in_channels": 36}),
    "image_encoder": nothing,
    "image_processor": nothing,
}
# Most pipelines of Wan's kind clean prompts with ftfy, a package that diffusers does not require:
# they get embeddings instead, and their text encoder does not run.
_EMBEDDED = {
    "prompt_embeds": normal(1, 16, 32),
    "negative_prompt_embeds": normal(1, 16, 32),
}

PIPELINES = {
    "WanPipeline": ZooRecipe("text to video", {**_WAN, "transformer_2": nothing}, CLIP),
    "WanPipeline-two-experts": ZooRecipe(
        "text to video",
        {**_WAN, "transformer_2": _WAN_MODEL},
        CLIP,
        # The first expert denoises down to this share of the noise, the second the rest.
        {"boundary_ratio": 0.875},
        pipeline_class="WanPipeline",
    ),
    "WanImageToVideoPipeline": ZooRecipe(
        "image to video",
        {**_WAN_IMAGE, "transformer_2": nothing},
        {**CLIP, **_EMBEDDED, "image": image()},
        prompted=False,
    ),
    "WanImageToVideoPipeline-two-experts": ZooRecipe(
        "image to video",
        _WAN_22_IMAGE,
        {**CLIP, **_EMBEDDED, "image": image()},
        {"boundary_ratio": 0.875},
        prompted=False,
        pipeline_class="WanImageToVideoPipeline",
    ),
    "WanVideoToVideoPipeline": ZooRecipe(
        "video to video",
        _WAN,
        {
            **SQUARE,
            **_EMBEDDED,
            "max_sequence_length": 16,
            "video": frames(9),
            "strength": 1.0,
        },
        prompted=False,
    ),
    "WanVACEPipeline": ZooRecipe(
        "video to video",
        {
            **_WAN,
            "transformer": model(
                "WanVACETransformer3DModel",
                **{**_WAN_SHAPE, "num_layers": 3, "vace_layers": [0, 2], "vace_in_channels": 96},
            ),
            "transformer_2": nothing,
        },
        {**CLIP, **_EMBEDDED, "video": frames(9), "mask": masks(9)},
        prompted=False,
    ),
    "SkyReelsV2Pipeline": ZooRecipe(
        "text to video",
        {
            **_UMT5,
            "vae": wan_vae(),
            "scheduler": scheduler("UniPCMultistepScheduler", flow_shift=8.0, use_flow_sigmas=True),
            "transformer": model("SkyReelsV2Transformer3DModel", **_WAN_SHAPE),
        },
        {**CLIP, **_EMBEDDED},
        prompted=False,
    ),
    "SkyReelsV2DiffusionForcingPipeline": ZooRecipe(
        "text to video",
        {
            **_UMT5,
            "vae": wan_vae(),
            "scheduler": scheduler("UniPCMultistepScheduler", flow_shift=8.0, use_flow_sigmas=True),
            "transformer": model("SkyReelsV2Transformer3DModel", **_WAN_SHAPE),
        },
        {**CLIP, **_EMBEDDED, "prompt": None},
        prompted=False,
    ),
}

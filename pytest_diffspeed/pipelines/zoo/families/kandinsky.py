"""Kandinsky 2 to 5: a prior that makes image embeddings, and a decoder that draws them."""

from typing import Any

from ..inputs import image, mask, normal
from ..parts import (
    Part,
    clip_image,
    clip_processor,
    clip_text,
    flow,
    flow_vae,
    model,
    qwen_vl,
    scheduler,
    t5,
    tokenizer,
)
from ..recipe import ZooRecipe

_WIDTH = 16
DDIM = scheduler(
    "DDIMScheduler",
    beta_schedule="linear",
    beta_start=0.00085,
    beta_end=0.012,
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
)
MOVQ = model(
    "VQModel",
    in_channels=3,
    out_channels=3,
    latent_channels=4,
    layers_per_block=1,
    block_out_channels=(32, 32),
    norm_num_groups=4,
    norm_type="spatial",
    num_vq_embeddings=12,
    vq_embed_dim=4,
    down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
)


def _decoder(**values: Any) -> Part:
    shared = {
        "in_channels": 4,
        "out_channels": 8,
        "layers_per_block": 1,
        "block_out_channels": (32, 64),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": _WIDTH,
        "encoder_hid_dim": _WIDTH,
        "resnet_time_scale_shift": "scale_shift",
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    }
    return model("UNet2DConditionModel", **{**shared, **values})


def _multilingual_clip() -> object:
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    return MultilingualCLIP(
        MCLIPConfig(
            transformerDimensions=_WIDTH,
            numDims=_WIDTH,
            hidden_size=_WIDTH,
            intermediate_size=32,
            num_attention_heads=2,
            num_hidden_layers=2,
            vocab_size=2048,
        )
    ).eval()


_PRIOR = {
    "prior": model(
        "PriorTransformer",
        num_attention_heads=2,
        attention_head_dim=8,
        embedding_dim=_WIDTH,
        num_layers=1,
        num_embeddings=16,
    ),
    "text_encoder": clip_text(_WIDTH, projected=True),
    "tokenizer": tokenizer(16),
    "image_encoder": clip_image(_WIDTH),
    "image_processor": clip_processor(),
    "scheduler": scheduler(
        "UnCLIPScheduler",
        variance_type="fixed_small_log",
        prediction_type="sample",
        clip_sample=True,
        clip_sample_range=10.0,
    ),
}
_OF_PRIOR = {f"prior_{name}": part for name, part in _PRIOR.items() if name != "prior"}
_V1 = {
    "text_encoder": _multilingual_clip,
    "tokenizer": tokenizer(77),
    "unet": _decoder(addition_embed_type="text_image", encoder_hid_dim_type="text_image_proj"),
    "scheduler": DDIM,
    "movq": MOVQ,
}
_IMAGE_UNET = {"addition_embed_type": "image", "encoder_hid_dim_type": "image_proj"}
_V22 = {"unet": _decoder(**_IMAGE_UNET), "scheduler": DDIM, "movq": MOVQ}
_SQUARE = {"height": 32, "width": 32, "guidance_scale": 4.0}
_EMBEDS = {"image_embeds": normal(1, _WIDTH), "negative_image_embeds": normal(1, _WIDTH)}

_QWEN = {
    "text_encoder": qwen_vl(32),
    "tokenizer": tokenizer(256, chat=True),
    "text_encoder_2": clip_text(16),
    "tokenizer_2": tokenizer(16),
    "scheduler": flow(shift=7.0),
}
_KANDINSKY5 = {
    "in_visual_dim": 16,
    "in_text_dim": 32,
    "in_text_dim2": 16,
    "time_dim": 16,
    "out_visual_dim": 16,
    "patch_size": (1, 2, 2),
    "model_dim": 16,
    "ff_dim": 32,
    "num_text_blocks": 1,
    "num_visual_blocks": 2,
    "axes_dims": (1, 1, 2),
    "attention_type": "regular",
}

PIPELINES = {
    "KandinskyPipeline": ZooRecipe("text to image", _V1, {**_SQUARE, **_EMBEDS}),
    "KandinskyPriorPipeline": ZooRecipe("text to embedding", _PRIOR, {"guidance_scale": 4.0}),
    "KandinskyCombinedPipeline": ZooRecipe(
        "text to image", {**_V1, "prior_prior": _PRIOR["prior"], **_OF_PRIOR}, _SQUARE
    ),
    "KandinskyV22Pipeline": ZooRecipe(
        "embedding to image", _V22, {**_SQUARE, **_EMBEDS}, prompted=False
    ),
    "KandinskyV22PriorPipeline": ZooRecipe("text to embedding", _PRIOR, {"guidance_scale": 4.0}),
    "KandinskyV22CombinedPipeline": ZooRecipe(
        "text to image",
        {**_V22, "prior_prior": _PRIOR["prior"], **_OF_PRIOR},
        {**_SQUARE, "prior_num_inference_steps": 3},
    ),
    "KandinskyV22ControlnetPipeline": ZooRecipe(
        "ControlNet",
        {
            "unet": _decoder(
                addition_embed_type="image_hint",
                encoder_hid_dim_type="image_proj",
                in_channels=8,
            ),
            "scheduler": DDIM,
            "movq": model(
                "VQModel",
                in_channels=3,
                out_channels=3,
                latent_channels=4,
                block_out_channels=(32, 32, 32, 32),
                norm_num_groups=4,
                norm_type="spatial",
                num_vq_embeddings=12,
                vq_embed_dim=4,
                down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
                up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
            ),
        },
        {**_SQUARE, **_EMBEDS, "height": 64, "width": 64, "hint": normal(1, 3, 64, 64)},
        prompted=False,
    ),
    "KandinskyV22Img2ImgPipeline": ZooRecipe(
        "image to image",
        _V22,
        {**_SQUARE, **_EMBEDS, "image": image(), "strength": 1.0},
        prompted=False,
    ),
    "KandinskyV22InpaintPipeline": ZooRecipe(
        "inpainting",
        {**_V22, "unet": _decoder(**_IMAGE_UNET, in_channels=9)},
        {**_SQUARE, **_EMBEDS, "image": image(), "mask_image": mask()},
        prompted=False,
    ),
    "Kandinsky3Pipeline": ZooRecipe(
        "text to image",
        {
            "text_encoder": t5(),
            "tokenizer": tokenizer(16),
            "unet": model(
                "Kandinsky3UNet",
                in_channels=4,
                time_embedding_dim=4,
                groups=2,
                attention_head_dim=4,
                layers_per_block=2,
                block_out_channels=(32, 64),
                cross_attention_dim=4,
                encoder_hid_dim=32,
            ),
            "scheduler": scheduler(
                "DDPMScheduler", beta_schedule="squaredcos_cap_v2", clip_sample=True
            ),
            "movq": MOVQ,
        },
        _SQUARE,
    ),
    "Kandinsky5T2IPipeline": ZooRecipe(
        "text to image",
        {
            **_QWEN,
            "vae": flow_vae(16),
            "transformer": model("Kandinsky5Transformer3DModel", **_KANDINSKY5, visual_cond=False),
        },
        {"height": 32, "width": 32, "guidance_scale": 4.0, "max_sequence_length": 16},
        # It takes the nearest of its own sizes, of about a megapixel.
        adapted=lambda pipeline: setattr(pipeline, "resolutions", [(32, 32)]),
    ),
}

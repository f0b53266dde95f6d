"""Pipelines of several stages: Stable Cascade, Stable unCLIP, DeepFloyd IF, and Shap-E."""

import inspect

from ..inputs import image, normal
from ..parts import (
    clip_image,
    clip_processor,
    clip_text,
    model,
    nothing,
    scheduler,
    t5,
    tokenizer,
    unet_config,
    vae,
)
from ..recipe import ZooRecipe

_WIDTH = 32
_PRIOR_UNET = model(
    "StableCascadeUNet",
    in_channels=16,
    out_channels=16,
    conditioning_dim=32,
    block_out_channels=(32, 32),
    num_attention_heads=(2, 2),
    down_num_layers_per_block=(1, 1),
    up_num_layers_per_block=(1, 1),
    switch_level=(False,),
    clip_image_in_channels=_WIDTH,
    clip_text_in_channels=_WIDTH,
    clip_text_pooled_in_channels=_WIDTH,
    dropout=(0.1, 0.1),
)
_DECODER = model(
    "StableCascadeUNet",
    in_channels=4,
    out_channels=4,
    conditioning_dim=32,
    block_out_channels=(16, 16, 32, 32),
    num_attention_heads=(-1, -1, 1, 2),
    down_num_layers_per_block=(1, 1, 1, 1),
    up_num_layers_per_block=(1, 1, 1, 1),
    down_blocks_repeat_mappers=(1, 1, 1, 1),
    up_blocks_repeat_mappers=(1, 1, 1, 1),
    block_types_per_layer=(
        ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
        ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
        ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
    ),
    switch_level=None,
    clip_text_pooled_in_channels=_WIDTH,
    effnet_in_channels=16,
    dropout=(0.1, 0.1, 0.1, 0.1),
)
_WUERSTCHEN = scheduler("DDPMWuerstchenScheduler")
_TEXT = {"text_encoder": clip_text(_WIDTH, projected=True), "tokenizer": tokenizer(77)}
_PRIOR = {
    **_TEXT,
    "prior": _PRIOR_UNET,
    "scheduler": _WUERSTCHEN,
    "image_encoder": clip_image(_WIDTH),
    "feature_extractor": clip_processor(),
}


def _vqgan() -> object:
    import diffusers

    # Its module moved between versions of diffusers: the pipeline knows where it is.
    pipeline_class = diffusers.StableCascadeDecoderPipeline
    vq_model = inspect.signature(pipeline_class).parameters["vqgan"].annotation
    return vq_model(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=16).eval()


_IF_UNET = {
    **unet_config(),
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 6,
    "cross_attention_dim": 32,
    "encoder_hid_dim": 32,
    "attention_head_dim": 8,
    "block_out_channels": (32, 64),
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 2,
    "cross_attention_norm": "group_norm",
    "resnet_time_scale_shift": "scale_shift",
    "act_fn": "gelu",
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
}
_LEARNED = scheduler(
    "DDPMScheduler",
    beta_schedule="squaredcos_cap_v2",
    thresholding=True,
    variance_type="learned_range",
)
_IF = {
    "text_encoder": t5(),
    "tokenizer": tokenizer(77),
    "unet": model("UNet2DConditionModel", **_IF_UNET),
    "scheduler": _LEARNED,
    "safety_checker": nothing,
    "feature_extractor": nothing,
    "watermarker": nothing,
}
_IF_LARGER = {
    **_IF,
    "unet": model(
        "UNet2DConditionModel",
        **{
            **_IF_UNET,
            "in_channels": 6,
            "class_embed_type": "timestep",
            "mid_block_scale_factor": 1.414,
            "time_embedding_act_fn": "gelu",
            "time_embedding_dim": 32,
        },
    ),
    "image_noising_scheduler": scheduler("DDPMScheduler", beta_schedule="squaredcos_cap_v2"),
}
_UNCHECKED = {"requires_safety_checker": False}

_UNCLIP_UNET = model(
    "UNet2DConditionModel",
    **{
        **unet_config(),
        "attention_head_dim": (2, 4),
        "cross_attention_dim": 16,
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": 2 * 16,
        "use_linear_projection": True,
    },
)
_UNCLIP = {
    "tokenizer": tokenizer(16),
    "text_encoder": clip_text(16),
    "unet": _UNCLIP_UNET,
    "scheduler": scheduler("DDIMScheduler", prediction_type="v_prediction"),
    "vae": vae(),
    "image_normalizer": model(
        "StableUnCLIPImageNormalizer",
        "diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer",
        embedding_dim=16,
    ),
    "image_noising_scheduler": scheduler("DDPMScheduler", beta_schedule="squaredcos_cap_v2"),
}
_RENDERER = 8

PIPELINES = {
    "StableCascadePriorPipeline": ZooRecipe(
        "text to embedding",
        _PRIOR,
        {"guidance_scale": 4.0, "height": 256, "width": 256},
        {"resolution_multiple": 42.67},
    ),
    "StableCascadeDecoderPipeline": ZooRecipe(
        "embedding to image",
        {**_TEXT, "decoder": _DECODER, "scheduler": _WUERSTCHEN, "vqgan": _vqgan},
        {"image_embeddings": normal(1, 16, 2, 2), "guidance_scale": 1.1},
    ),
    "StableCascadeCombinedPipeline": ZooRecipe(
        "text to image",
        {
            **_TEXT,
            "decoder": _DECODER,
            "scheduler": _WUERSTCHEN,
            "vqgan": _vqgan,
            "prior_prior": _PRIOR_UNET,
            "prior_text_encoder": _TEXT["text_encoder"],
            "prior_tokenizer": _TEXT["tokenizer"],
            "prior_scheduler": _WUERSTCHEN,
            "prior_image_encoder": nothing,
            "prior_feature_extractor": nothing,
        },
        {
            "height": 128,
            "width": 128,
            "prior_num_inference_steps": 2,
            "prior_guidance_scale": 4.0,
            "decoder_guidance_scale": 1.1,
        },
    ),
    "IFPipeline": ZooRecipe("text to image", _IF, {"guidance_scale": 6.0}, _UNCHECKED),
    "IFImg2ImgPipeline": ZooRecipe(
        "image to image",
        _IF,
        {"image": image(), "guidance_scale": 6.0, "strength": 1.0},
        _UNCHECKED,
    ),
    "IFSuperResolutionPipeline": ZooRecipe(
        "upscaling", _IF_LARGER, {"image": image(), "guidance_scale": 6.0}, _UNCHECKED
    ),
    "StableUnCLIPPipeline": ZooRecipe(
        "text to image",
        {
            **_UNCLIP,
            "prior_tokenizer": tokenizer(16),
            "prior_text_encoder": clip_text(16, projected=True),
            "prior": model(
                "PriorTransformer",
                num_attention_heads=2,
                attention_head_dim=8,
                embedding_dim=16,
                num_layers=1,
                num_embeddings=16,
            ),
            "prior_scheduler": scheduler(
                "DDPMScheduler",
                variance_type="fixed_small_log",
                prediction_type="sample",
                clip_sample=True,
                clip_sample_range=5.0,
                beta_schedule="squaredcos_cap_v2",
            ),
        },
        {"height": 32, "width": 32, "prior_num_inference_steps": 2},
    ),
    "StableUnCLIPImg2ImgPipeline": ZooRecipe(
        "image to image",
        {**_UNCLIP, "image_encoder": clip_image(16), "feature_extractor": clip_processor()},
        {"height": 32, "width": 32, "image": image()},
    ),
    "ShapEPipeline": ZooRecipe(
        "text to 3D",
        {
            "prior": model(
                "PriorTransformer",
                num_attention_heads=2,
                attention_head_dim=16,
                embedding_dim=16,
                num_embeddings=32,
                embedding_proj_dim=16,
                time_embed_dim=64,
                num_layers=1,
                clip_embed_dim=32,
                additional_embeddings=0,
                time_embed_act_fn="gelu",
                norm_in_type="layer",
                encoder_hid_proj_type=None,
                added_emb_type=None,
            ),
            "text_encoder": clip_text(16, projected=True),
            "tokenizer": tokenizer(16),
            "scheduler": scheduler(
                "HeunDiscreteScheduler",
                beta_schedule="exp",
                num_train_timesteps=1024,
                prediction_type="sample",
                use_karras_sigmas=True,
                clip_sample=True,
                clip_sample_range=1.0,
            ),
            "shap_e_renderer": model(
                "ShapERenderer",
                "diffusers.pipelines.shap_e",
                param_shapes=((_RENDERER, 93), (_RENDERER, 8), (_RENDERER, 8), (_RENDERER, 8)),
                d_latent=16,
                d_hidden=_RENDERER,
                n_output=12,
                background=(0.1, 0.1, 0.1),
            ),
        },
        {"frame_size": 8, "guidance_scale": 4.0, "output_type": "latent"},
    ),
}

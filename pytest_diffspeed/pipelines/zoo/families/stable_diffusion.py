"""Stable Diffusion 1 and 2: text, images, masks, depth, and its step-saving relatives."""

from ..inputs import image, mask, normal, uniform
from ..parts import (
    clip_image,
    clip_processor,
    clip_text,
    model,
    nothing,
    scheduler,
    tokenizer,
    unet,
    vae,
)
from ..recipe import ZooRecipe

DDIM = scheduler(
    "DDIMScheduler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
)
PNDM = scheduler("PNDMScheduler", skip_prk_steps=True)
LCM = scheduler(
    "LCMScheduler",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
)
TEXT = {"text_encoder": clip_text(), "tokenizer": tokenizer(16)}
UNCHECKED = {"safety_checker": nothing, "feature_extractor": nothing}
CORE = {**TEXT, "vae": vae(), "scheduler": DDIM}
BASE = {**CORE, **UNCHECKED, "unet": unet()}
GUIDED = {"guidance_scale": 6.0}
SQUARE = {**GUIDED, "height": 32, "width": 32}
UNCHECKED_OPTION = {"requires_safety_checker": False}
VISION = {"image_encoder": clip_image(), "feature_extractor": clip_processor()}

_DEPTH = model(
    "DPTForDepthEstimation",
    "transformers",
    image_size=32,
    patch_size=16,
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=16,
    backbone_out_indices=[0, 1, 2, 3],
    neck_hidden_sizes=[8, 8, 8, 8],
    fusion_hidden_size=8,
    is_hybrid=False,
)


def _depth_processor() -> object:
    from transformers import DPTImageProcessor

    return DPTImageProcessor(size={"height": 32, "width": 32})


_UPSCALER = unet(
    in_channels=7,
    num_class_embeds=1000,
    only_cross_attention=(True, False),
    use_linear_projection=True,
)
_LATENT_UPSCALER = model(
    "UNet2DConditionModel",
    sample_size=16,
    act_fn="gelu",
    attention_head_dim=8,
    norm_num_groups=None,
    block_out_channels=(32, 32, 64, 64),
    time_cond_proj_dim=136,
    conv_in_kernel=1,
    conv_out_kernel=1,
    cross_attention_dim=8,
    down_block_types=("KDownBlock2D",) + ("KCrossAttnDownBlock2D",) * 3,
    up_block_types=("KCrossAttnUpBlock2D",) * 3 + ("KUpBlock2D",),
    mid_block_type=None,
    in_channels=8,
    out_channels=5,
    only_cross_attention=False,
    resnet_time_scale_shift="scale_shift",
    time_embedding_type="fourier",
    timestep_post_act="gelu",
)

PIPELINES = {
    "StableDiffusionPipeline": ZooRecipe(
        "text to image", BASE, SQUARE, {**UNCHECKED_OPTION, "image_encoder": None}
    ),
    "StableDiffusionImg2ImgPipeline": ZooRecipe(
        "image to image",
        BASE,
        {**GUIDED, "image": image(), "strength": 1.0},
        UNCHECKED_OPTION,
    ),
    "StableDiffusionInpaintPipeline": ZooRecipe(
        "inpainting",
        {**BASE, "unet": unet(in_channels=9)},
        {**SQUARE, "image": image(), "mask_image": mask()},
        UNCHECKED_OPTION,
    ),
    "StableDiffusionInstructPix2PixPipeline": ZooRecipe(
        "image to image",
        {**BASE, "unet": unet(in_channels=8), "scheduler": PNDM},
        {**GUIDED, "image": image(), "image_guidance_scale": 1.5},
        UNCHECKED_OPTION,
    ),
    "StableDiffusionDepth2ImgPipeline": ZooRecipe(
        "image to image",
        {
            **TEXT,
            "vae": vae(),
            "scheduler": PNDM,
            "unet": unet(in_channels=5),
            "depth_estimator": _DEPTH,
            "feature_extractor": _depth_processor,
        },
        {**GUIDED, "image": image(), "strength": 1.0},
    ),
    "StableDiffusionUpscalePipeline": ZooRecipe(
        "upscaling",
        {
            **TEXT,
            "vae": vae(),
            "unet": _UPSCALER,
            "scheduler": DDIM,
            "low_res_scheduler": scheduler("DDPMScheduler"),
        },
        {**GUIDED, "image": image(16), "noise_level": 20},
        {"max_noise_level": 350},
    ),
    "StableDiffusionLatentUpscalePipeline": ZooRecipe(
        "upscaling",
        {
            **TEXT,
            "vae": vae(widths=(8, 16, 16, 16)),
            "unet": _LATENT_UPSCALER,
            "scheduler": scheduler("EulerDiscreteScheduler", prediction_type="sample"),
        },
        {**GUIDED, "image": normal(1, 4, 8, 8)},
    ),
    "StableDiffusionImageVariationPipeline": ZooRecipe(
        "image to image",
        {
            "vae": vae(),
            "scheduler": PNDM,
            "unet": unet(),
            "image_encoder": clip_image(),
            "feature_extractor": clip_processor(),
            "safety_checker": nothing,
        },
        {**SQUARE, "image": image()},
        UNCHECKED_OPTION,
        prompted=False,
    ),
    "StableDiffusionPanoramaPipeline": ZooRecipe(
        "text to image",
        BASE,
        {**GUIDED, "height": 32, "width": 64},
        {**UNCHECKED_OPTION, "image_encoder": None},
    ),
    "StableDiffusionPAGPipeline": ZooRecipe(
        "text to image",
        BASE,
        {**SQUARE, "pag_scale": 3.0},
        {**UNCHECKED_OPTION, "pag_applied_layers": ["mid"], "image_encoder": None},
    ),
    "StableDiffusionSAGPipeline": ZooRecipe(
        "text to image", BASE, {**SQUARE, "sag_scale": 0.75}, UNCHECKED_OPTION
    ),
    "LatentConsistencyModelPipeline": ZooRecipe(
        "text to image",
        {**BASE, "unet": unet(time_cond_proj_dim=32), "scheduler": LCM},
        SQUARE,
        {**UNCHECKED_OPTION, "image_encoder": None},
    ),
    "LatentConsistencyModelImg2ImgPipeline": ZooRecipe(
        "image to image",
        {**BASE, "unet": unet(time_cond_proj_dim=32), "scheduler": LCM},
        {**GUIDED, "image": image(), "strength": 1.0},
        {**UNCHECKED_OPTION, "image_encoder": None},
    ),
    "MarigoldDepthPipeline": ZooRecipe(
        "image to depth",
        {**TEXT, "vae": vae(), "scheduler": DDIM, "unet": unet(in_channels=8)},
        {"image": uniform(1, 3, 32, 32), "processing_resolution": 0},
        {"prediction_type": "depth", "scale_invariant": True, "shift_invariant": True},
        prompted=False,
    ),
    "MarigoldNormalsPipeline": ZooRecipe(
        "image to normals",
        {**TEXT, "vae": vae(), "scheduler": DDIM, "unet": unet(in_channels=8)},
        {"image": uniform(1, 3, 32, 32), "processing_resolution": 0},
        {"prediction_type": "normals", "use_full_z_range": True},
        prompted=False,
    ),
    "MarigoldIntrinsicsPipeline": ZooRecipe(
        "image to intrinsics",
        {
            **TEXT,
            "vae": vae(),
            "scheduler": DDIM,
            "unet": unet(in_channels=12, out_channels=8),
        },
        {"image": uniform(1, 3, 32, 32), "processing_resolution": 0},
        {"prediction_type": "intrinsics"},
        prompted=False,
    ),
}

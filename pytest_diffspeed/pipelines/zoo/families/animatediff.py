"""Stable Diffusion over frames: AnimateDiff, its ControlNets, and text to video."""

from ..inputs import frames, image
from ..parts import clip_image, clip_processor, model, nothing, scheduler, unet
from ..parts import controlnet as small_controlnet
from ..recipe import ZooRecipe
from .stable_diffusion import BASE as SD_BASE
from .stable_diffusion import DDIM, TEXT
from .wan import SQUARE

_ANIMATE = {
    **{name: part for name, part in SD_BASE.items() if name != "safety_checker"},
    "unet": unet(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    ),
    "scheduler": scheduler("DDIMScheduler", beta_schedule="linear", clip_sample=False),
    "motion_adapter": model(
        "MotionAdapter",
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=4,
        motion_num_attention_heads=2,
    ),
    "image_encoder": nothing,
}
_ANIMATE_CALL = {**SQUARE, "num_frames": 4}

PIPELINES = {
    "AnimateDiffPipeline": ZooRecipe("text to video", _ANIMATE, _ANIMATE_CALL),
    "AnimateDiffVideoToVideoPipeline": ZooRecipe(
        "video to video", _ANIMATE, {**SQUARE, "video": frames(4), "strength": 1.0}
    ),
    "AnimateDiffControlNetPipeline": ZooRecipe(
        "ControlNet",
        {
            **_ANIMATE,
            "controlnet": small_controlnet(
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D")
            ),
        },
        {**_ANIMATE_CALL, "conditioning_frames": frames(4)},
    ),
    "AnimateDiffSparseControlNetPipeline": ZooRecipe(
        "ControlNet",
        {
            **_ANIMATE,
            "controlnet": model(
                "SparseControlNetModel",
                block_out_channels=(8, 16),
                layers_per_block=1,
                in_channels=4,
                conditioning_channels=3,
                down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
                cross_attention_dim=8,
                conditioning_embedding_out_channels=(4, 8),
                norm_num_groups=4,
                use_simplified_condition_embedding=False,
            ),
        },
        {
            **_ANIMATE_CALL,
            "conditioning_frames": frames(2),
            "controlnet_frame_indices": [0, 3],
        },
    ),
    "StableVideoDiffusionPipeline": ZooRecipe(
        "image to video",
        {
            "unet": model(
                "UNetSpatioTemporalConditionModel",
                block_out_channels=(32, 64),
                layers_per_block=1,
                sample_size=16,
                in_channels=8,
                out_channels=4,
                down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
                up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
                cross_attention_dim=8,
                num_attention_heads=4,
                projection_class_embeddings_input_dim=3 * 8,
                addition_time_embed_dim=8,
            ),
            "vae": model(
                "AutoencoderKLTemporalDecoder",
                block_out_channels=(32, 32),
                down_block_types=("DownEncoderBlock2D",) * 2,
                latent_channels=4,
            ),
            # It makes the image this large before the encoder sees it.
            "image_encoder": clip_image(8, 224),
            "feature_extractor": clip_processor(224),
            "scheduler": scheduler(
                "EulerDiscreteScheduler",
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type="v_prediction",
                sigma_max=700.0,
                sigma_min=0.002,
                steps_offset=1,
                timestep_spacing="leading",
                timestep_type="continuous",
                use_karras_sigmas=True,
            ),
        },
        {"image": image(), "height": 32, "width": 32, "num_frames": 4},
        prompted=False,
    ),
    "TextToVideoSDPipeline": ZooRecipe(
        "text to video",
        {
            **TEXT,
            "vae": SD_BASE["vae"],
            "scheduler": DDIM,
            "unet": model(
                "UNet3DConditionModel",
                block_out_channels=(32, 32),
                layers_per_block=1,
                sample_size=16,
                in_channels=4,
                out_channels=4,
                down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
                cross_attention_dim=8,
                attention_head_dim=4,
            ),
        },
        _ANIMATE_CALL,
    ),
}

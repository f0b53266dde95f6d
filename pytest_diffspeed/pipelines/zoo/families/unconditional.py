"""Pixels without a text: unconditional, by class, and image restoration."""

from ..inputs import image
from ..parts import model, scheduler, vae
from ..recipe import ZooRecipe

_UNET = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (8, 16),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
UNET = model("UNet2DModel", **_UNET)

PIPELINES = {
    "DDPMPipeline": ZooRecipe(
        "unconditional", {"unet": UNET, "scheduler": scheduler("DDPMScheduler")}, prompted=False
    ),
    "DDIMPipeline": ZooRecipe(
        "unconditional",
        {"unet": UNET, "scheduler": scheduler("DDIMScheduler")},
        {"eta": 0.0},
        prompted=False,
    ),
    "ConsistencyModelPipeline": ZooRecipe(
        "class to image",
        {
            "unet": model(
                "UNet2DModel",
                **{**_UNET, "num_class_embeds": 10, "resnet_time_scale_shift": "scale_shift"},
            ),
            "scheduler": scheduler(
                "CMStochasticIterativeScheduler",
                num_train_timesteps=40,
                sigma_min=0.002,
                sigma_max=80.0,
            ),
        },
        {"class_labels": 3},
        prompted=False,
    ),
    "DiTPipeline": ZooRecipe(
        "class to image",
        {
            "transformer": model(
                "DiTTransformer2DModel",
                sample_size=16,
                num_layers=2,
                patch_size=4,
                attention_head_dim=8,
                num_attention_heads=2,
                in_channels=4,
                out_channels=8,
                attention_bias=True,
                activation_fn="gelu-approximate",
                num_embeds_ada_norm=1000,
                norm_type="ada_norm_zero",
                norm_elementwise_affine=False,
            ),
            "vae": vae(),
            "scheduler": scheduler("DDIMScheduler"),
        },
        {"class_labels": [1]},
        prompted=False,
    ),
    "DanceDiffusionPipeline": ZooRecipe(
        "unconditional audio",
        {
            "unet": model(
                "UNet1DModel",
                sample_size=512,
                sample_rate=512,
                block_out_channels=(32, 32, 64),
                extra_in_channels=64,
                time_embedding_type="fourier",
                flip_sin_to_cos=True,
                use_timestep_embedding=False,
                mid_block_type="UNetMidBlock1D",
                down_block_types=("DownBlock1DNoSkip", "DownBlock1D", "AttnDownBlock1D"),
                up_block_types=("AttnUpBlock1D", "UpBlock1D", "UpBlock1DNoSkip"),
            ),
            "scheduler": scheduler("IPNDMScheduler"),
        },
        {"audio_length_in_s": 1.0},
        prompted=False,
    ),
    "LDMSuperResolutionPipeline": ZooRecipe(
        "upscaling",
        {
            "vqvae": model(
                "VQModel",
                in_channels=3,
                out_channels=3,
                latent_channels=3,
                block_out_channels=(8, 16),
                norm_num_groups=4,
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                num_vq_embeddings=16,
            ),
            "unet": model("UNet2DModel", **{**_UNET, "in_channels": 6, "norm_num_groups": 2}),
            "scheduler": scheduler("DDIMScheduler"),
        },
        {"image": image(32)},
        prompted=False,
    ),
}

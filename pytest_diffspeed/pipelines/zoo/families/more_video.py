"""Latte, Sana-Video and Cosmos."""

from ..parts import flow, model, scheduler, wan_vae
from ..recipe import ZooRecipe
from .pixart import GEMMA, T5
from .stable_diffusion import BASE as SD_BASE
from .wan import CLIP, SQUARE

_COSMOS_SHAPE = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "mlp_ratio": 2,
    "text_embed_dim": 32,
    "adaln_lora_dim": 4,
    "max_size": (4, 32, 32),
    "patch_size": (1, 2, 2),
    "rope_scale": (2.0, 1.0, 1.0),
    "concat_padding_mask": True,
    "extra_pos_embed_type": "learnable",
}


def _unguarded() -> object:
    """Stands for Cosmos' guardrail, which is a package of its own: it lets everything pass."""
    import torch

    class Guardrail(torch.nn.Module):
        device = torch.device("cpu")
        dtype = torch.float32

        def check_text_safety(self, prompt: object) -> bool:
            return True

        def check_video_safety(self, video: object) -> object:
            return video

    return Guardrail()


PIPELINES = {
    "LattePipeline": ZooRecipe(
        "text to video",
        {
            **T5,
            "transformer": model(
                "LatteTransformer3DModel",
                sample_size=16,
                num_layers=1,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=3,
                caption_channels=32,
                in_channels=4,
                cross_attention_dim=24,
                out_channels=8,
                attention_bias=True,
                activation_fn="gelu-approximate",
                num_embeds_ada_norm=1000,
                norm_type="ada_norm_single",
                norm_elementwise_affine=False,
                norm_eps=1e-6,
                video_length=4,
            ),
            "vae": SD_BASE["vae"],
            "scheduler": scheduler("DDIMScheduler"),
        },
        {**SQUARE, "video_length": 4, "clean_caption": False},
    ),
    "CosmosTextToWorldPipeline": ZooRecipe(
        "text to video",
        {
            **T5,
            "transformer": model(
                "CosmosTransformer3DModel", **_COSMOS_SHAPE, in_channels=4, out_channels=4
            ),
            "vae": model(
                "AutoencoderKLCosmos",
                latent_channels=4,
                encoder_block_out_channels=(8, 8, 8, 8),
                decode_block_out_channels=(8, 8, 8, 8),
                attention_resolutions=(8,),
                resolution=64,
                num_layers=2,
                patch_size=4,
                patch_type="haar",
                scaling_factor=1.0,
                spatial_compression_ratio=4,
                temporal_compression_ratio=4,
            ),
            "scheduler": scheduler(
                "EDMEulerScheduler",
                sigma_min=0.002,
                sigma_max=80,
                sigma_data=0.5,
                sigma_schedule="karras",
                prediction_type="epsilon",
                rho=7.0,
                final_sigmas_type="sigma_min",
            ),
            "safety_checker": _unguarded,
        },
        CLIP,
        needs=("torchvision",),
    ),
    "Cosmos2TextToImagePipeline": ZooRecipe(
        "text to image",
        {
            **T5,
            "transformer": model(
                "CosmosTransformer3DModel", **_COSMOS_SHAPE, in_channels=16, out_channels=16
            ),
            "vae": wan_vae(),
            "scheduler": flow(use_karras_sigmas=True),
            "safety_checker": _unguarded,
        },
        {**SQUARE, "max_sequence_length": 16},
        needs=("torchvision",),
    ),
    "SanaVideoPipeline": ZooRecipe(
        "text to video",
        {
            **GEMMA,
            "vae": wan_vae(),
            "scheduler": flow(shift=8.0),
            "transformer": model(
                "SanaVideoTransformer3DModel",
                in_channels=16,
                out_channels=16,
                num_attention_heads=2,
                attention_head_dim=12,
                num_layers=2,
                num_cross_attention_heads=2,
                cross_attention_head_dim=12,
                cross_attention_dim=24,
                caption_channels=8,
                mlp_ratio=2.5,
                sample_size=8,
                patch_size=(1, 2, 2),
                norm_elementwise_affine=False,
                norm_eps=1e-6,
                qk_norm="rms_norm_across_heads",
                rope_max_seq_len=32,
            ),
        },
        {
            **SQUARE,
            "frames": 9,
            "max_sequence_length": 16,
            "complex_human_instruction": [],
            "use_resolution_binning": False,
        },
    ),
}

"""PixArt, AuraFlow, Lumina, PRX and HiDream: one transformer with its text encoders."""

from ..inputs import attended, normal
from ..parts import (
    clip_text,
    decoder_config,
    flow,
    flow_vae,
    language_model,
    model,
    scheduler,
    t5,
    tokenizer,
    vae,
)
from ..recipe import ZooRecipe
from .stable_diffusion_3 import SQUARE

T5 = {"text_encoder": t5(), "tokenizer": tokenizer(16)}
_PIXART = {
    **T5,
    "transformer": model(
        "PixArtTransformer2DModel",
        sample_size=16,
        num_layers=2,
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
    ),
    "vae": vae(),
    "scheduler": scheduler("DDIMScheduler"),
}
_PIXART_CALL = {**SQUARE, "use_resolution_binning": False, "max_sequence_length": 16}
GEMMA = {
    "text_encoder": language_model("Gemma2Model", 8, layer_types=["full_attention"] * 2),
    "tokenizer": tokenizer(16),
}


def _t5_gemma() -> object:
    from transformers.models.t5gemma.configuration_t5gemma import T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    config = T5GemmaModuleConfig(**decoder_config(8), layer_types=["full_attention"] * 2)
    config.dropout_rate = 0.0  # the whole model's configuration sets it on its encoder's
    return T5GemmaEncoder(config).eval()


PIPELINES = {
    "PixArtAlphaPipeline": ZooRecipe("text to image", _PIXART, _PIXART_CALL),
    "PixArtSigmaPipeline": ZooRecipe("text to image", _PIXART, _PIXART_CALL),
    "PixArtSigmaPAGPipeline": ZooRecipe(
        "text to image",
        _PIXART,
        {**_PIXART_CALL, "pag_scale": 3.0},
        {"pag_applied_layers": ["blocks.1"]},
    ),
    "AuraFlowPipeline": ZooRecipe(
        "text to image",
        {
            "text_encoder": t5(class_name="UMT5EncoderModel"),
            "tokenizer": tokenizer(16),
            "transformer": model(
                "AuraFlowTransformer2DModel",
                sample_size=16,
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_mmdit_layers=1,
                num_single_dit_layers=1,
                attention_head_dim=8,
                num_attention_heads=4,
                caption_projection_dim=32,
                joint_attention_dim=32,
                pos_embed_max_size=256,
            ),
            "vae": vae(),
            "scheduler": flow(),
        },
        {**SQUARE, "max_sequence_length": 16},
    ),
    "LuminaPipeline": ZooRecipe(
        "text to image",
        {
            "text_encoder": language_model("GemmaModel", 8),
            "tokenizer": tokenizer(16),
            "transformer": model(
                "LuminaNextDiT2DModel",
                sample_size=16,
                patch_size=2,
                in_channels=4,
                hidden_size=16,
                num_layers=2,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=16,
                ffn_dim_multiplier=None,
                norm_eps=1e-5,
                learn_sigma=True,
                qk_norm=True,
                cross_attention_dim=8,
                scaling_factor=1.0,
            ),
            "vae": vae(),
            "scheduler": flow(),
        },
        {**SQUARE, "max_sequence_length": 16},
    ),
    "Lumina2Pipeline": ZooRecipe(
        "text to image",
        {
            **GEMMA,
            "transformer": model(
                "Lumina2Transformer2DModel",
                sample_size=16,
                patch_size=2,
                in_channels=4,
                hidden_size=8,
                num_layers=2,
                num_attention_heads=1,
                num_kv_heads=1,
                multiple_of=16,
                ffn_dim_multiplier=None,
                norm_eps=1e-5,
                scaling_factor=1.0,
                axes_dim_rope=(4, 2, 2),
                cap_feat_dim=8,
            ),
            "vae": flow_vae(),
            "scheduler": flow(),
        },
        {**SQUARE, "max_sequence_length": 32},
    ),
    "PRXPipeline": ZooRecipe(
        "text to image",
        {
            "text_encoder": _t5_gemma,
            "tokenizer": tokenizer(16),
            "transformer": model(
                "PRXTransformer2DModel",
                patch_size=1,
                in_channels=4,
                context_in_dim=8,
                hidden_size=16,
                mlp_ratio=2.0,
                num_heads=2,
                depth=1,
                axes_dim=[4, 4],
            ),
            "vae": flow_vae(shift_factor=0.0, scaling_factor=1.0),
            "scheduler": flow(),
        },
        # The pipeline cleans a prompt with ftfy, which diffusers does not require.
        {
            **SQUARE,
            "use_resolution_binning": False,
            "prompt_embeds": normal(1, 16, 8),
            "prompt_attention_mask": attended(1, 16),
            "negative_prompt_embeds": normal(1, 16, 8),
            "negative_prompt_attention_mask": attended(1, 16),
        },
        prompted=False,
    ),
    "HiDreamImagePipeline": ZooRecipe(
        "text to image",
        {
            "text_encoder": clip_text(16, projected=True),
            "tokenizer": tokenizer(16),
            "text_encoder_2": clip_text(16, projected=True),
            "tokenizer_2": tokenizer(16),
            "text_encoder_3": t5(),
            "tokenizer_3": tokenizer(16),
            "text_encoder_4": language_model("LlamaForCausalLM"),
            "tokenizer_4": tokenizer(16),
            "transformer": model(
                "HiDreamImageTransformer2DModel",
                patch_size=2,
                in_channels=4,
                out_channels=4,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=8,
                num_attention_heads=4,
                caption_channels=[32, 16],
                text_emb_dim=32,
                num_routed_experts=4,
                num_activated_experts=2,
                axes_dims_rope=(4, 2, 2),
                max_resolution=(32, 32),
                llama_layers=(0, 1),
            ),
            "vae": vae(scaling_factor=0.3611, shift_factor=0.1159),
            "scheduler": flow(),
        },
        {**SQUARE, "max_sequence_length": 16},
        # It scales every size up to this one, times the scale of its VAE.
        adapted=lambda pipeline: setattr(pipeline, "default_sample_size", 16),
    ),
}

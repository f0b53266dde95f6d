"""Hunyuan-DiT and CogView."""

from ..inputs import image, normal
from ..parts import flow, language_model, model, nothing, scheduler, t5, tokenizer, vae
from ..recipe import ZooRecipe
from .pixart import T5
from .stable_diffusion_3 import SQUARE

_HUNYUAN_SHAPE = {
    "sample_size": 16,
    "patch_size": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 3,
    "in_channels": 4,
    "cross_attention_dim": 16,
    "cross_attention_dim_t5": 32,
    "pooled_projection_dim": 16,
    "hidden_size": 24,
    "activation_fn": "gelu-approximate",
}
_BERT = model(
    "BertModel",
    "transformers",
    vocab_size=2048,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
)
_HUNYUAN = {
    "text_encoder": _BERT,
    "tokenizer": tokenizer(77),
    "text_encoder_2": t5(),
    "tokenizer_2": tokenizer(256),
    "transformer": model("HunyuanDiT2DModel", num_layers=4, **_HUNYUAN_SHAPE),
    "vae": vae(widths=(8, 8, 8, 16)),
    "scheduler": scheduler("DDPMScheduler"),
    "safety_checker": nothing,
    "feature_extractor": nothing,
}
_HUNYUAN_CALL = {
    "height": 128,
    "width": 128,
    "guidance_scale": 4.0,
    "use_resolution_binning": False,
}
_UNCHECKED = {"requires_safety_checker": False}
_COGVIEW4 = {
    "text_encoder": language_model("GlmModel", 32),
    "tokenizer": tokenizer(16, pad_left=True),
    "transformer": model(
        "CogView4Transformer2DModel",
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    ),
    "vae": vae(),
    "scheduler": flow(
        base_shift=0.25,
        max_shift=0.75,
        base_image_seq_len=256,
        use_dynamic_shifting=True,
        time_shift_type="linear",
    ),
}
_COGVIEW3 = {
    **T5,
    "transformer": model(
        "CogView3PlusTransformer2DModel",
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=16,
        sample_size=16,
    ),
    "vae": vae(),
    "scheduler": scheduler("CogVideoXDDIMScheduler"),
}

PIPELINES = {
    "HunyuanDiTPipeline": ZooRecipe("text to image", _HUNYUAN, _HUNYUAN_CALL, _UNCHECKED),
    "HunyuanDiTControlNetPipeline": ZooRecipe(
        "ControlNet",
        {
            **_HUNYUAN,
            "controlnet": model(
                "HunyuanDiT2DControlNetModel", transformer_num_layers=4, **_HUNYUAN_SHAPE
            ),
        },
        {**_HUNYUAN_CALL, "control_image": normal(1, 3, 128, 128)},
        _UNCHECKED,
    ),
    "CogView3PlusPipeline": ZooRecipe(
        "text to image", _COGVIEW3, {**SQUARE, "max_sequence_length": 16}
    ),
    "CogView4Pipeline": ZooRecipe(
        "text to image", _COGVIEW4, {**SQUARE, "max_sequence_length": 16}
    ),
    "CogView4ControlPipeline": ZooRecipe(
        "image to image",
        {
            **_COGVIEW4,
            "transformer": model(
                "CogView4Transformer2DModel",
                patch_size=2,
                in_channels=8,
                out_channels=4,
                num_layers=2,
                attention_head_dim=4,
                num_attention_heads=4,
                text_embed_dim=32,
                time_embed_dim=8,
                condition_dim=4,
            ),
        },
        {**SQUARE, "control_image": image(), "max_sequence_length": 16},
    ),
}

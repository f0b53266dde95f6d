"""Text encoders and a VAE as small as they can be, with random weights."""

from __future__ import annotations

from typing import Any

from pytest_diffspeed.pipelines.random_weights import TOKENIZER

VOCABULARY = 2048
"""What the demo's tokenizer needs."""


def tokenizer(length: int = 77) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(
        str(TOKENIZER), local_files_only=True, model_max_length=length
    )


def clip(projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = tokenizer()
    config = CLIPTextConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=32,
        vocab_size=VOCABULARY,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    )


def gemma() -> Any:
    from transformers import Gemma2Config, Gemma2Model

    return Gemma2Model(
        Gemma2Config(
            vocab_size=VOCABULARY,
            head_dim=4,
            hidden_size=8,
            intermediate_size=8,
            num_attention_heads=2,
            num_hidden_layers=2,
            num_key_value_heads=2,
            sliding_window=2,
        )
    )


def vae(latent_channels: int = 4, *, quant: bool = True, shift: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        sample_size=32,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=latent_channels,
        norm_num_groups=2,
        use_quant_conv=quant,
        use_post_quant_conv=quant,
        shift_factor=shift,
        scaling_factor=1.5035,
    )

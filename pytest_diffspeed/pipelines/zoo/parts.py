"""Components of small pipelines, described without being made.

A :data:`Part` is a function without arguments that makes the component.  Family files write tables
of parts: they are read when a name is looked up, and neither torch nor diffusers is imported until
a pipeline is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Part = Callable[[], Any]

TOKENIZER = Path(__file__).parents[1] / "demo_weights" / "tokenizer"
VOCABULARY = 2048
"""Embeddings of every text encoder here; the demo tokenizer has fewer tokens."""

# The demo tokenizer's ids of start and end: CLIP pools where it finds the end.
START, END = 1072, 1073
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part.get('text', '') }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def model(class_name: str, library: str = "diffusers", /, **values: Any) -> Part:
    """A model with the default initialization; ``values`` are those of its configuration."""

    def make() -> Any:
        found = getattr(importlib.import_module(library), class_name)
        configuration = getattr(found, "config_class", None)
        return (found(**values) if configuration is None else found(configuration(**values))).eval()

    return make


def scheduler(class_name: str, /, **values: Any) -> Part:
    """A scheduler of diffusers, made by its class's own arguments."""

    def make() -> Any:
        return getattr(importlib.import_module("diffusers"), class_name)(**values)

    return make


def flow(**values: Any) -> Part:
    """The scheduler that most flow-matching pipelines use."""
    return scheduler("FlowMatchEulerDiscreteScheduler", **values)


def several(class_name: str, library: str, /, *parts: Part) -> Part:
    """A module that holds a list of ``parts``, such as ``MultiControlNetModel``."""

    def make() -> Any:
        return getattr(importlib.import_module(library), class_name)([part() for part in parts])

    return make


def nothing() -> None:
    """A component that the pipeline works without, such as a safety checker."""


def tokenizer(length: int = 16, *, chat: bool = False, pad_left: bool = False) -> Part:
    """The demo pipeline's tokenizer: what one costs is the length, not the words.

    ``length`` is the number of tokens where the pipeline asks for the tokenizer's own maximum,
    ``chat`` adds a chat template.
    """

    def make() -> Any:
        from transformers import CLIPTokenizer

        made = CLIPTokenizer.from_pretrained(
            str(TOKENIZER), local_files_only=True, model_max_length=length
        )
        if chat:
            made.chat_template = CHAT
        if pad_left:
            made.padding_side = "left"
        return made

    return make


def clip_text(width: int = 8, *, projected: bool = False, positions: int = 77) -> Part:
    """A CLIP text encoder with states of ``width``; ``projected``: with its pooled embedding."""
    return model(
        "CLIPTextModelWithProjection" if projected else "CLIPTextModel",
        "transformers",
        **_transformer(width),
        projection_dim=width,
        max_position_embeddings=positions,
    )


def clip_image(width: int = 8, size: int = 32, projection: int | None = None) -> Part:
    """A CLIP image encoder with its projection."""
    values = _transformer(width)
    for word in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"):
        del values[word]
    return model(
        "CLIPVisionModelWithProjection",
        "transformers",
        **values,
        image_size=size,
        patch_size=size // 4,
        projection_dim=projection or width,
    )


def clip_processor(size: int = 32) -> Part:
    """Turns images into what :func:`clip_image` takes."""

    def make() -> Any:
        from transformers import CLIPImageProcessor

        return CLIPImageProcessor(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        )

    return make


def t5(width: int = 32, class_name: str = "T5EncoderModel", **values: Any) -> Part:
    """A T5 (or UMT5) encoder with states of ``width``."""
    return model(
        class_name,
        "transformers",
        **{
            "vocab_size": VOCABULARY,
            "d_model": width,
            "d_ff": 32,
            "d_kv": 8,
            "num_layers": 1,
            "num_heads": 2,
            "relative_attention_num_buckets": 8,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            **values,
        },
    )


def language_model(class_name: str, width: int = 16, **values: Any) -> Part:
    """A decoder-only language model (Qwen, Gemma, Llama …) that encodes a prompt."""
    return model(class_name, "transformers", **{**decoder_config(width), **values})


def decoder_config(width: int) -> dict[str, Any]:
    """The configuration that small decoder-only language models share."""
    return {
        **_transformer(width),
        "num_key_value_heads": 2,
        "head_dim": width // 2,
        "max_position_embeddings": 512,
    }


def qwen_vl(width: int = 16) -> Part:
    """Qwen2.5-VL, which Qwen-Image and others read prompts and images with."""
    values = decoder_config(width)
    del values["head_dim"]
    text = {
        **values,
        "rope_theta": 1000000.0,
        "rope_scaling": {
            "type": "default",
            "rope_type": "default",
            # A quarter, three eighths and three eighths of half a head, as in the published model.
            "mrope_section": [width // 16, width // 16, width // 8],
        },
    }
    vision = {
        "depth": 2,
        "hidden_size": width,
        "intermediate_size": width,
        "num_heads": 2,
        "out_hidden_size": width,
    }
    return model(
        "Qwen2_5_VLForConditionalGeneration",
        "transformers",
        text_config=text,
        vision_config=vision,
        image_token_id=VOCABULARY - 1,
        video_token_id=VOCABULARY - 2,
        vision_start_token_id=VOCABULARY - 3,
        vision_end_token_id=VOCABULARY - 4,
    )


def gemma3(width: int, layers: int) -> Part:
    """Gemma 3 with its image tower, which LTX-2 has though it reads text only."""
    vision = {
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }
    return model(
        "Gemma3ForConditionalGeneration",
        "transformers",
        text_config={**decoder_config(width), "num_hidden_layers": layers},
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=VOCABULARY - 1,
        boi_token_index=VOCABULARY - 2,
        eoi_token_index=VOCABULARY - 3,
    )


def _transformer(width: int) -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": END,
    }


def vae(latents: int = 4, widths: tuple[int, ...] = (8, 16), **values: Any) -> Part:
    """``AutoencoderKL``; each width after the first halves the size."""
    return model(
        "AutoencoderKL",
        **{
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": latents,
            "block_out_channels": widths,
            "down_block_types": ("DownEncoderBlock2D",) * len(widths),
            "up_block_types": ("UpDecoderBlock2D",) * len(widths),
            "norm_num_groups": 4,
            "sample_size": 32,
            **values,
        },
    )


def flow_vae(latents: int = 4, widths: tuple[int, ...] = (8, 16), **values: Any) -> Part:
    """The :func:`vae` of flow-matching pipelines: shifted latents, no quantization layers."""
    flow_values = {
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "shift_factor": 0.0609,
        "scaling_factor": 1.5035,
    }
    return vae(latents, widths, **{**flow_values, **values})


def wan_vae(latents: int = 16, **values: Any) -> Part:
    """The video VAE of Wan: 8 times smaller in space, 4 times in time."""
    return model(
        "AutoencoderKLWan",
        **{
            "base_dim": 3,
            "z_dim": latents,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "temperal_downsample": [False, True, True],
            **values,
        },
    )


def unet(**values: Any) -> Part:
    """``UNet2DConditionModel`` of Stable Diffusion's kind, with 16 × 16 latents."""
    return model("UNet2DConditionModel", **unet_config(**values))


def unet_config(**values: Any) -> dict[str, Any]:
    """The configuration of :func:`unet`."""
    return {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
        "attention_head_dim": 4,
        "cross_attention_dim": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        **values,
    }


def controlnet(class_name: str = "ControlNetModel", **values: Any) -> Part:
    """The ControlNet beside :func:`unet`."""
    config = unet_config()
    for word in ("sample_size", "out_channels", "up_block_types"):
        del config[word]
    return model(
        class_name,
        **{**config, "conditioning_embedding_out_channels": (4, 8), **values},
    )

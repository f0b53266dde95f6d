"""SDXL's denoiser at its full width with fewer blocks, as a pipeline source of the product.

``sdxl_cut:pipeline`` is what a user would write after ``--diffspeed-pipeline``.  The denoiser has
SDXL's widths (320, 640, 1280), its 77 text tokens of 2048 and latents of 128 × 128, those of an
image of 1024 × 1024; there is one layer a block instead of two, and (1, 1, 2) transformer layers
instead of (1, 2, 10), so that compiling it takes seconds.  Text encoders have two layers.  The VAE
has one level: it decodes 128 × 128 latents to 128 × 128 pixels.  Weights are random, and drawn on
the device by the product's own code for ``random:`` sources.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

NAME = "sdxl-cut"
TOLD = "layers_per_block 1 (not 2), transformer layers 1, 1, 2 (not 1, 2, 10), VAE of one level"

_VAE = {
    "block_out_channels": [32],
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "layers_per_block": 1,
    "mid_block_add_attention": False,
    "norm_num_groups": 8,
    "force_upcast": False,
}
_ENCODER = {"num_hidden_layers": 2, "vocab_size": 4096}
FULL: dict[str, dict[str, Any]] = {
    "unet": {"layers_per_block": 1, "transformer_layers_per_block": [1, 1, 2]},
    "vae": {**_VAE, "sample_size": 128},
    "text_encoder": _ENCODER,
    "text_encoder_2": _ENCODER,
}
SMALL: dict[str, dict[str, Any]] = {
    "unet": {
        "layers_per_block": 1,
        "block_out_channels": [64],
        "mid_block_type": None,
        "down_block_types": ["CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D"],
        "transformer_layers_per_block": [1],
        "attention_head_dim": [4],
        "sample_size": 16,
    },
    "vae": {**_VAE, "sample_size": 16},
}
"""On top of ``sdxl-tiny``; one level, since compiling it on a CPU takes most of the dry run."""

_drawn_on: list[str] = []


def place(folder: Path, *, small: bool, device: str) -> int:
    """Write the configurations to ``folder``, for :func:`pipeline`; the side of its latents."""
    from pytest_diffspeed.pipelines import random_weights

    whole = folder / "configs" / NAME
    shutil.copytree(random_weights.CONFIGS / ("sdxl-tiny" if small else "sdxl-base"), whole)
    for part, changed in (SMALL if small else FULL).items():
        path = whole / part / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changed), "utf-8")
    random_weights.CONFIGS = whole.parent
    _drawn_on[:] = [device]
    side = json.loads((whole / "unet" / "config.json").read_text("utf-8"))["sample_size"]
    pipeline.call_defaults = {  # type: ignore[attr-defined]
        "prompts": ["a red apple on a wooden table", "a lighthouse in a storm"],
        "steps": 2,
        "height": side,
        "width": side,
        "guidance": 5.0,
    }
    return int(side)


def pipeline() -> Any:
    """The pipeline, its weights the same each time."""
    from pytest_diffspeed.pipelines import random_weights

    return random_weights.build(NAME, device=_drawn_on[0])

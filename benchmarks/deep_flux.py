"""A Flux of many small blocks, on which a compilation takes long for their number alone."""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel

from pytest_diffspeed.pipelines.sources import parse_source

DOUBLE, SINGLE = 4, 8
"""Blocks of each kind; Flux.1 has 19 and 38."""


def pipeline():
    """``random:flux-tiny`` with more blocks in its transformer, and with wider ones."""
    whole = parse_source("random:flux-tiny").build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = FluxTransformer2DModel.from_config(
            whole.transformer.config,
            num_layers=DOUBLE,
            num_single_layers=SINGLE,
            num_attention_heads=8,
            attention_head_dim=32,
            axes_dims_rope=[8, 12, 12],
        )
    whole.register_modules(transformer=transformer.eval().requires_grad_(False))
    return whole


pipeline.call_defaults = {"prompts": ["a fox"], "steps": 4, "height": 128, "width": 128}

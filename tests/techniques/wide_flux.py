"""Flux with one block of each kind, wide enough that products in 8 bits are worth it."""

import torch
from diffusers import FluxTransformer2DModel

from tests.compilation import small_pipeline


def build():
    pipeline = small_pipeline.flux()
    narrow = pipeline.transformer.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wide = FluxTransformer2DModel.from_config(narrow, num_attention_heads=8)
    pipeline.transformer = wide.eval()
    return pipeline


# Few rows, since a CPU without float8 multiplies them one by one: 35 ns for each of a product.
build.call_defaults = {
    "prompts": ["a fox"],
    "steps": 1,
    "height": 16,
    "width": 16,
    "max_sequence_length": 32,
}

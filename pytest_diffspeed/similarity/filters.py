"""Valid-window filters and down-sampling, on any device and in any precision.

Filtering is a sum of shifted slices and no convolution: cuDNN convolves float32 in TF32 by default,
and the difference of two local moments does not survive its ten bits.  Matrix products can be told
to round as much, on CPUs too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

SIGMA = 1.5
RADIUS = 5
WINDOW = 2 * RADIUS + 1
"""Of SSIM's Gaussian window: 11 pixels with sigma 1.5 (Wang et al., 2004)."""
TARGET_SIDE = 256
"""SSIM's authors compare images at about this side (``ssim.m``, "automatic down-sampling")."""


def gaussian_weights() -> list[float]:
    """The window's weights along one axis; they add up to 1."""
    raw = [math.exp(-0.5 * (i / SIGMA) ** 2) for i in range(-RADIUS, RADIUS + 1)]
    return [weight / sum(raw) for weight in raw]


def gaussian_filter(images: torch.Tensor) -> torch.Tensor:
    """From ``H × W`` to ``(H - 10) × (W - 10)``: only windows that lie inside the image."""
    weights = gaussian_weights()
    height, width = images.shape[-2] - WINDOW + 1, images.shape[-1] - WINDOW + 1
    rows = images[..., :height, :] * weights[0]
    for offset, weight in enumerate(weights[1:], start=1):
        rows.add_(images[..., offset : offset + height, :], alpha=weight)
    filtered = rows[..., :width] * weights[0]
    for offset, weight in enumerate(weights[1:], start=1):
        filtered.add_(rows[..., offset : offset + width], alpha=weight)
    return filtered


def average_pool(images: torch.Tensor, factor: int) -> torch.Tensor:
    """Means of ``factor × factor`` blocks; what is left over at the edges makes smaller blocks."""
    if factor == 1:
        return images
    return torch.nn.functional.avg_pool2d(images, factor, ceil_mode=True)


def comparison_size(images: torch.Tensor) -> torch.Tensor:
    """Down-sampled by the whole factor that brings the shorter side nearest to 256 pixels."""
    return average_pool(images, _factor(images.shape))


def comparison_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Of ``N × C × H × W`` images after that."""
    factor = _factor(shape)
    return (*shape[:-2], *(-(-side // factor) for side in shape[-2:]))


def _factor(shape: Sequence[int]) -> int:
    return max(1, round(min(shape[-2:]) / TARGET_SIDE))

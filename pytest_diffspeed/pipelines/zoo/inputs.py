"""Inputs of a call that are made for a case: images, masks, frames and tensors.

Each is a function of the case, so that cases differ by image as they do by prompt, and the same
case has the same image whichever arm runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Seeded(Protocol):
    """What an input is made of: any case of a call."""

    @property
    def seed(self) -> int: ...


Input = Callable[[Seeded], Any]


def image(width: int = 32, height: int | None = None) -> Input:
    """A PIL image of smooth random colours."""
    return lambda case: _image(case.seed, width, height or width)


def frames(count: int, size: int = 32) -> Input:
    """A list of PIL images, each a little different from the one before."""
    return lambda case: [_image(case.seed, size, size, shift=index) for index in range(count)]


def mask(size: int = 32) -> Input:
    """A PIL image that is white in its left half: that half is drawn anew."""

    def make(case: Seeded) -> Any:
        from PIL import Image

        made = Image.new("L", (size, size), 0)
        made.paste(255, (0, 0, size // 2, size))
        return made

    return make


def masks(count: int, size: int = 32) -> Input:
    """:func:`mask` for each of ``count`` frames."""
    return lambda case: [mask(size)(case)] * count


def normal(*shape: int) -> Input:
    """A float32 tensor of ``shape``, standard normal."""

    def make(case: Seeded) -> Any:
        import torch

        return torch.randn(shape, generator=torch.Generator().manual_seed(case.seed))

    return make


def uniform(*shape: int) -> Input:
    """A float32 tensor of ``shape`` in [0, 1), as pixels are."""

    def make(case: Seeded) -> Any:
        import torch

        return torch.rand(shape, generator=torch.Generator().manual_seed(case.seed))

    return make


def attended(*shape: int) -> Input:
    """An attention mask of ``shape`` that leaves nothing out, for embeddings that are given."""

    def make(case: Seeded) -> Any:
        import torch

        return torch.ones(shape, dtype=torch.bool)

    return make


def _image(seed: int, width: int, height: int, shift: int = 0) -> Any:
    import numpy as np
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    moved = np.roll(coarse, shift, axis=1)
    return Image.fromarray(moved).resize((width, height), Image.Resampling.BICUBIC)

"""What an image may look like: arrays and tensors, read into one form or refused in one sentence.

Inside this library images are tensors ``N × C × H × W``, C = 1 or 3, floating point in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

LAYOUTS = ("NHWC", "NCHW")
CHANNELS = (1, 3)
RANGE_TOLERANCE = 1e-3
"""Rounding in 16 bits may leave [0, 1] by this much; more is another range."""


class ImageInputError(ValueError):
    """Something was given as images that cannot be read as such."""


def as_images(value: object, name: str = "images", layout: str | None = None) -> torch.Tensor:
    """Read images into ``N × C × H × W``, on the device where they are.

    Args:
        value: a tensor or an array, ``H × W × C``, ``C × H × W`` or a batch of those, or a sequence
            of single images of one size.  ``uint8`` in 0…255 or floating point in [0, 1].
        name: what to call it in messages.
        layout: ``"NHWC"`` or ``"NCHW"``, where the shape alone does not tell (``3 × 64 × 3``).

    Returns:
        float32 for 8-bit and 16-bit input, else the input's own precision.  ``uint8`` is divided
        by 255 after the conversion, so that no difference can wrap.  The values of floating-point
        images are *not* looked at: that is what :func:`~.sanity.findings` is for.

    Raises:
        ImageInputError: another type, rank or number of channels, or an ambiguous layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ImageInputError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    tensor = _tensor(value, name)
    if tensor.dtype == torch.uint8:
        tensor = tensor.to(torch.float32) / 255.0
    elif tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.to(torch.float32)
    elif tensor.dtype not in (torch.float32, torch.float64):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ImageInputError(
            f"{name} are of type {kind}; give uint8 in 0…255 or floating point in [0, 1]"
        )
    if tensor.dim() == 3:
        tensor = tensor.unsqueeze(0)
    if tensor.dim() != 4 or 0 in tensor.shape:
        raise ImageInputError(
            f"{name} have the shape {shape_text(tensor)}; give N × H × W × C or N × C × H × W (or "
            "one image without N), none of them zero"
        )
    last, first = tensor.shape[-1] in CHANNELS, tensor.shape[1] in CHANNELS
    if layout is None:
        if last and first:
            raise ImageInputError(
                f"{name} have the shape {shape_text(tensor)}, in which either end could be the "
                'channels; say layout="NHWC" or layout="NCHW"'
            )
        layout = "NHWC" if last else "NCHW"
    if not (last if layout == "NHWC" else first):
        raise ImageInputError(
            f"{name} have the shape {shape_text(tensor)} without an axis of 1 or 3 channels where "
            f"{layout} has it; drop an alpha channel, and give grey images a channel axis"
        )
    if layout == "NHWC":
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.detach().contiguous()


def shape_text(tensor: torch.Tensor) -> str:
    return " × ".join(str(side) for side in tensor.shape)


def _tensor(value: object, name: str) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "uif":
            raise ImageInputError(
                f"{name} are of type {value.dtype}; give uint8 in 0…255 or floating point in [0, 1]"
            )
        if value.dtype.itemsize > 1 and not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        return _from_numpy(value, name)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if not value:
            raise ImageInputError(f"{name}: the sequence is empty; give at least one image")
        return _stacked([_one_of(image, f"{name}[{i}]") for i, image in enumerate(value)], name)
    return _one_of(value, name)


def _one_of(value: object, name: str) -> torch.Tensor:
    """One image: a tensor, an array, or what offers itself as an array (as PIL images do)."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return _tensor(value, name)
    if not hasattr(value, "__array_interface__"):
        raise ImageInputError(
            f"{name} are {type(value).__name__}; give a tensor, a NumPy array or a list of images"
        )
    return _from_numpy(np.asarray(value), name)


def _from_numpy(array: np.ndarray[Any, Any], name: str) -> torch.Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(array).copy())
    except TypeError:
        raise ImageInputError(
            f"{name} are of type {array.dtype}; give uint8 in 0…255 or floating point in [0, 1]"
        ) from None


def _stacked(images: list[torch.Tensor], name: str) -> torch.Tensor:
    shapes = {(tuple(image.shape), image.dtype) for image in images}
    if len(shapes) > 1:
        told = "; ".join(sorted(f"{shape} {dtype}" for shape, dtype in shapes))
        raise ImageInputError(f"{name} differ in shape or type ({told}); give images of one size")
    if images[0].dim() != 3:
        raise ImageInputError(
            f"{name}: each of a sequence must be one image H × W × C or C × H × W, not "
            f"{shape_text(images[0])}"
        )
    return torch.stack(images)

"""What an image may look like: arrays and tensors, read into one form or refused in one sentence.

Inside this library images are tensors ``N × C × H × W``, C = 1 or 3, floating point in [0, 1].
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LAYOUTS = ("NHWC", "NCHW")
CHANNELS = (1, 3)
PIXEL_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
RANGE_TOLERANCE = 1e-3
"""Rounding in 16 bits may leave [0, 1] by this much; more is another range."""


class ImageInputError(ValueError):
    """Something was given as images that cannot be read as such."""


class ImageTypeError(ImageInputError, TypeError):
    """Something was given that holds no pixels at all: a file's name, a class, a number."""


@dataclass(frozen=True)
class ImageBatch:
    """Images that were read and not copied: ``C × H × W`` each, in the type they were given in."""

    images: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (to_float(image) for image in self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """``N, C, H, W``."""
        return (len(self.images), *self.images[0].shape)

    @property
    def device(self) -> torch.device:
        return self.images[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the floating-point images."""
        return torch.float64 if self.images[0].dtype == torch.float64 else torch.float32

    def room(self, number: int, device: torch.device | None = None) -> torch.Tensor:
        """An empty tensor for so many of these images in floating point."""
        shape = (number, *self.shape[1:])
        return torch.empty(shape, dtype=self.dtype, device=device or self.device)

    def read(self, indices: Sequence[int], room: torch.Tensor) -> torch.Tensor:
        """Those images in floating point, ``N × C × H × W``, in ``room`` for as many or more."""
        for place, index in enumerate(indices):
            room[place] = to_float(self.images[index])
        return room[: len(indices)]


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
    batch = read_images(value, name, layout)
    return batch.read(range(len(batch)), batch.room(len(batch)))


def read_images(value: object, name: str = "images", layout: str | None = None) -> ImageBatch:
    """The same without copying, so that many large images take no more memory than they do."""
    if layout is not None and layout not in LAYOUTS:
        raise ImageInputError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if not value:
            raise ImageInputError(f"{name}: the sequence is empty; give at least one image")
        given = [_tensor(image, f"{name}[{i}]") for i, image in enumerate(value)]
        return ImageBatch(_in_layout(_alike(given, name), name, layout))
    tensor = _tensor(value, name)
    _require_pixels(tensor, name)
    if tensor.dim() not in (3, 4) or 0 in tensor.shape:
        raise ImageInputError(
            f"{name} have the shape {shape_text(tensor)}; give N × H × W × C or N × C × H × W (or "
            "one image without N), none of them zero"
        )
    single = tensor.unsqueeze(0) if tensor.dim() == 3 else tensor
    return ImageBatch(_in_layout(single.unbind(0), name, layout))


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """8-bit pixels divided by 255, 16-bit floating point as float32, others as they are.

    Raises:
        ImageInputError: another type, whose range nobody knows.
    """
    _require_pixels(pixels, "the images")
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.float32) / 255.0
    return pixels.to(torch.float32) if pixels.dtype.itemsize < 4 else pixels


def _require_pixels(pixels: torch.Tensor, name: str) -> None:
    if pixels.dtype not in PIXEL_TYPES:
        kind = str(pixels.dtype).removeprefix("torch.")
        raise ImageInputError(
            f"{name} are of type {kind}; give uint8 in 0…255 or floating point in [0, 1]"
        )


def _in_layout(
    images: Sequence[torch.Tensor], name: str, layout: str | None
) -> tuple[torch.Tensor, ...]:
    """Each as ``C × H × W``, a view."""
    shape = shape_text((len(images), *images[0].shape))
    last, first = images[0].shape[-1] in CHANNELS, images[0].shape[0] in CHANNELS
    if layout is None:
        if last and first:
            raise ImageInputError(
                f"{name} have the shape {shape}, in which either end could be the "
                'channels; say layout="NHWC" or layout="NCHW"'
            )
        layout = "NHWC" if last else "NCHW"
    if not (last if layout == "NHWC" else first):
        raise ImageInputError(
            f"{name} have the shape {shape} without an axis of 1 or 3 channels where "
            f"{layout} has it; drop an alpha channel, and give grey images a channel axis"
        )
    views = (image.detach() for image in images)
    return tuple(image.permute(2, 0, 1) if layout == "NHWC" else image for image in views)


def shape_text(shape: torch.Tensor | Sequence[int]) -> str:
    """``8 × 3 × 64 × 64``."""
    sides = shape.shape if isinstance(shape, torch.Tensor) else shape
    return " × ".join(str(side) for side in sides)


def _tensor(value: object, name: str) -> torch.Tensor:
    """A tensor, an array, or what offers itself as an array (as PIL images do)."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray):
        return _from_numpy(value, name)
    if not hasattr(value, "__array_interface__"):
        raise ImageTypeError(
            f"{name} are {kind_of(value)}; give a tensor, a NumPy array or a list of images"
        )
    return _from_numpy(np.asarray(value), name)


def is_list(value: object) -> bool:
    """Whether there is one for each output in it: a list or an array, and no text or number."""
    return hasattr(type(value), "__len__") and not isinstance(value, (str, bytes))


def kind_of(value: object) -> str:
    """What was given, for a message: ``str``, ``the class Tensor``."""
    kind = type(value).__name__
    return f"the class {value.__name__}" if isinstance(value, type) else kind


def _from_numpy(array: np.ndarray[Any, Any], name: str) -> torch.Tensor:
    if array.dtype.kind in "uif" and not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if min(array.strides, default=0) < 0:  # torch has no negative strides
        array = np.ascontiguousarray(array)
    try:
        with warnings.catch_warnings():
            # "not writable", as PIL's are: nobody writes.
            warnings.simplefilter("ignore", UserWarning)
            return torch.from_numpy(array)
    except TypeError:
        raise ImageInputError(
            f"{name} are of type {array.dtype}; give uint8 in 0…255 or floating point in [0, 1]"
        ) from None


def _alike(images: list[torch.Tensor], name: str) -> list[torch.Tensor]:
    shapes = {(tuple(image.shape), image.dtype) for image in images}
    if len(shapes) > 1:
        message = "; ".join(sorted(f"{shape} {dtype}" for shape, dtype in shapes))
        raise ImageInputError(
            f"{name} differ in shape or type ({message}); give images of one size"
        )
    _require_pixels(images[0], name)
    if images[0].dim() != 3 or 0 in images[0].shape:
        raise ImageInputError(
            f"{name}: each of a sequence must be one image H × W × C or C × H × W, not "
            f"{shape_text(images[0])}"
        )
    return images

"""What a pipeline gave for one case: an image, a video or a sound, whatever form it came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..common.errors import MeasurementError

if TYPE_CHECKING:
    import torch

IMAGE, VIDEO, AUDIO = "image", "video", "audio"
_FIELDS: Mapping[str, str] = {
    "images": IMAGE,
    "image": IMAGE,
    "prediction": IMAGE,
    "frames": VIDEO,
    "video": VIDEO,
    "audios": AUDIO,
    "audio": AUDIO,
    "sound": AUDIO,
}
"""What diffusers' outputs call them; of several, the first in this order is the output, and the
others stand beside it."""
_COLOURS = (1, 3)
_DIMENSIONS = {3: IMAGE, 4: VIDEO, 2: AUDIO}
_RATES = (
    ("vocoder", "output_sampling_rate"),
    ("vocoder", "sampling_rate"),
    ("vae", "sampling_rate"),
    ("audio_vae", "sampling_rate"),
    ("audio_vae", "sample_rate"),
    ("unet", "sample_rate"),
)
"""Where diffusers' pipelines have the sample rate: a component, and a name in its config."""


@dataclass(frozen=True)
class Output:
    """What one call gave for its one case.

    ``data`` is floating point: an image ``C × H × W`` and a video ``T × C × H × W`` in [0, 1], or
    the waves ``channels × samples`` of a sound with a full scale of 1, at ``sample_rate_hz`` where
    the pipeline tells.  ``beside`` is what else the call gave, such as the sound of a video, and
    ``left_out`` names what of that could not be read.
    """

    data: torch.Tensor
    sample_rate_hz: int | None = None
    left_out: tuple[str, ...] = ()
    beside: tuple[Output, ...] = ()

    @property
    def medium(self) -> str:
        """``"image"``, ``"video"`` or ``"audio"``."""
        return _DIMENSIONS[self.data.dim()]


def as_asked(images: Any) -> Any:
    """What a call gave that was asked for tensors; an array of images becomes a tensor.

    In diffusers 0.39 the calls of DDIM, DDPM and DiT know no ``output_type="pt"`` and give an array
    ``N × H × W × C``.  The memory stays the array's, so nothing is copied inside a timed call.
    """
    import numpy as np
    import torch

    if isinstance(images, np.ndarray) and images.ndim == 4 and images.shape[-1] in _COLOURS:
        return torch.from_numpy(images).permute(0, 3, 1, 2)
    return images


def medium_of_batch(outputs: torch.Tensor) -> str:
    """The medium of ``N × …``: their number of dimensions tells."""
    return _DIMENSIONS[outputs.dim() - 1]


def read_output(returned: object, pipeline: object) -> Output:
    """Read what a call returned: an output object of diffusers, or a tuple with it in front.

    Tensors, arrays and PIL images are read, with channels first or last.  A tuple has no names, so
    its shape tells what it is.

    Raises:
        MeasurementError: there is no image, video or sound in it, or there are several.
    """
    found = _named(returned)
    if found:
        (name, value), *others = found.items()
        medium = _FIELDS[name]
    else:
        name, medium, others = "output", "", []
        value = returned[0] if isinstance(returned, tuple) and returned else returned
    try:
        data = _read(value, medium)
    except _NotReadError as error:
        raise MeasurementError(
            f"{type(pipeline).__name__} gave {error} as {name} for one case instead of one image, "
            "video or sound; leave out arguments that ask for latents or for several"
        ) from None
    if name == "prediction" and data.dim() == 3 and len(data) == 3:
        data = (data + 1.0) / 2.0  # normals: unit vectors, each part in [-1, 1]
    beside: list[Output] = []
    left_out: list[str] = []
    for other, besides in others:
        try:
            read = _read(besides, _FIELDS[other])
        except _NotReadError:
            left_out.append(other)
        else:
            beside.append(Output(read, _rate_of(read, pipeline)))
    return Output(data, _rate_of(data, pipeline), tuple(left_out), tuple(beside))


class _NotReadError(Exception):
    """Says what was there."""


def _named(returned: object) -> dict[str, Any]:
    values = {name: getattr(returned, name, None) for name in _FIELDS}
    if isinstance(returned, (tuple, list)):
        return {}
    return {name: value for name, value in values.items() if value is not None}


def _read(value: Any, medium: str) -> torch.Tensor:
    """``medium`` is empty where the shape must tell."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != 1 and medium == VIDEO and not _is_batch(value[0] if value else None):
            return _video(_stacked(value))  # frames of one video, without a list around it
        if len(value) != 1:
            raise _NotReadError(f"{len(value)} outputs")
        inside = value[0]
        if isinstance(inside, Sequence):
            return _video(_stacked(inside))
        if medium == VIDEO:
            return _video(_tensor(inside), channels_last=_is_numpy(inside))
        return _of_medium(_tensor(inside), medium, channels_last=_is_numpy(inside))
    return _of_medium(_tensor(value), medium, channels_last=_is_numpy(value))


def _of_medium(data: torch.Tensor, medium: str, *, channels_last: bool) -> torch.Tensor:
    medium = medium or _guessed(data)
    if medium == AUDIO:
        return _waves(data)
    if medium == VIDEO or data.dim() == 5:
        return _video(data, channels_last=channels_last)
    return _image(data, channels_last=channels_last)


def _guessed(data: torch.Tensor) -> str:
    if data.dim() == 5:
        return VIDEO
    if data.dim() == 4:
        return IMAGE
    sides = data.shape
    is_image = data.dim() == 3 and (
        sides[-1] in _COLOURS or (sides[0] in _COLOURS and sides[1] not in (1, 2))
    )
    return IMAGE if is_image else AUDIO


def _image(data: torch.Tensor, *, channels_last: bool) -> torch.Tensor:
    shape = _shape(data)
    if data.dim() == 4 and len(data) == 1:
        data = data[0]
    if data.dim() == 2:
        data = data.unsqueeze(0)
    if data.dim() != 3:
        raise _NotReadError(shape)
    order = (2, 0) if channels_last else (0, 2)
    for axis in order:
        if data.shape[axis] in _COLOURS:
            return data if axis == 0 else data.permute(2, 0, 1)
    raise _NotReadError(f"{shape}, in which no axis has 1 or 3 channels,")


def _video(data: torch.Tensor, *, channels_last: bool = False) -> torch.Tensor:
    shape = _shape(data)
    if data.dim() == 5 and len(data) == 1:
        data = data[0]
    if data.dim() != 4:
        raise _NotReadError(shape)
    order = (3, 1, 0) if channels_last else (1, 0, 3)
    for axis in order:
        if data.shape[axis] in _COLOURS:
            moved = {3: (0, 3, 1, 2), 1: (0, 1, 2, 3), 0: (1, 0, 2, 3)}[axis]
            return data.permute(*moved)
    raise _NotReadError(f"{shape}, in which no axis has 1 or 3 channels,")


def _waves(data: torch.Tensor) -> torch.Tensor:
    shape = _shape(data)
    if data.dim() == 3 and len(data) == 1:
        data = data[0]
    if data.dim() == 1:
        data = data.unsqueeze(0)
    if data.dim() != 2 or data.shape[0] > data.shape[1]:
        raise _NotReadError(shape)
    return data


def _stacked(frames: Sequence[Any]) -> torch.Tensor:
    """Frames of one video: ``T × H × W × C`` or ``T × C × H × W``."""
    import torch

    if not frames:
        raise _NotReadError("a video without frames")
    read = [_image(_tensor(frame), channels_last=_is_numpy(frame)) for frame in frames]
    if len({frame.shape for frame in read}) > 1:
        raise _NotReadError("frames of different sizes")
    return torch.stack(read)


def _is_batch(value: Any) -> bool:
    """Whether an entry of a list of videos is a video: frames of one are images."""
    return isinstance(value, Sequence) or getattr(value, "ndim", 3) >= 4


def _is_numpy(value: Any) -> bool:
    """Arrays and PIL images have their channels last, tensors have them first."""
    import torch

    return not isinstance(value, torch.Tensor)


def _tensor(value: Any) -> torch.Tensor:
    """Floating point; 8 bits as a share of 255, 16 bits (sound) as a share of full scale."""
    import numpy as np
    import torch

    if not isinstance(value, torch.Tensor):
        if not isinstance(value, np.ndarray) and not hasattr(value, "__array_interface__"):
            raise _NotReadError(type(value).__name__)
        array = np.ascontiguousarray(value)
        if array.dtype.kind not in "uif":
            raise _NotReadError(f"an array of {array.dtype}")
        value = torch.from_numpy(array.copy())
    data: torch.Tensor = value.detach()
    if data.dtype == torch.uint8:
        return data.to(torch.float32) / 255.0
    if data.dtype == torch.int16:
        return data.to(torch.float32) / 32768.0
    if not data.dtype.is_floating_point:
        raise _NotReadError(f"a tensor of {str(data.dtype).removeprefix('torch.')}")
    return data


def _shape(data: torch.Tensor) -> str:
    return " × ".join(str(side) for side in data.shape) or "a number"


def _rate_of(data: torch.Tensor, pipeline: object) -> int | None:
    return _sample_rate(pipeline) if _DIMENSIONS[data.dim()] == AUDIO else None


def _sample_rate(pipeline: object) -> int | None:
    for component, name in _RATES:
        part = getattr(pipeline, component, None)
        rate = getattr(getattr(part, "config", None), name, None) or getattr(part, name, None)
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0:
            return int(rate)
    rate = getattr(pipeline, "sample_rate", None)
    return rate if isinstance(rate, int) and rate > 0 else None

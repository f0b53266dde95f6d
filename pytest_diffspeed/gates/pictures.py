"""Pictures of what the arms drew: baseline, optimized, and their difference.

Images stand side by side; videos are strips of frames (:mod:`.strips`), sounds spectrograms
(:mod:`.spectrograms`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from .spectrograms import spectrograms
from .strips import strips

Pixels = npt.NDArray[np.float32]

AMPLIFY = 8.0
"""The difference is shown this many times as large, since harmless rounding is invisible."""
SHOWN_SIDE = 192
"""Smaller images are enlarged by whole factors to about this many pixels."""

NOT_FINITE = (1.0, 0.0, 1.0)
"""Magenta, since black is a defect of its own."""


@dataclass(frozen=True)
class Picture:
    """One case of a comparison; ``name`` is a safe file name without its ending.

    ``baseline`` and ``optimized`` are an image ``C × H × W`` or a video ``T × C × H × W`` in
    [0, 1], whose ``worst_frame`` is marked, or a sound ``channels × samples``.
    """

    name: str
    baseline: Pixels
    optimized: Pixels
    worst_frame: int = 0
    sample_rate_hz: int | None = None


def save_picture(path: Path, shown: Picture) -> Path:
    """Write the PNG of one case."""
    if shown.baseline.ndim == 3:
        first, second = (_channels_last(image) for image in (shown.baseline, shown.optimized))
        return save_comparison(path, first, second)
    if shown.baseline.ndim == 4:
        picture = strips(shown.baseline, shown.optimized, shown.worst_frame)
    else:
        picture = spectrograms(shown.baseline, shown.optimized, shown.sample_rate_hz)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def _channels_last(image: Pixels) -> Pixels:
    return np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)


def save_comparison(path: Path, baseline: Pixels, optimized: Pixels) -> Path:
    """Write a PNG of one image: baseline | optimized | amplified difference.

    Both are ``height × width × 3`` in [0, 1]; what is not finite is drawn magenta.  Images of
    different sizes stand beside each other, on grey, without a difference.
    """
    panels = [_shown(baseline), _shown(optimized)]
    if baseline.shape == optimized.shape:
        panels.append(np.abs(panels[1] - panels[0]) * AMPLIFY)
    height = max(panel.shape[0] for panel in panels)
    strip = np.concatenate([_on_grey(panel, height) for panel in panels], axis=1)
    picture = Image.fromarray(np.rint(np.clip(strip, 0.0, 1.0) * 255.0).astype(np.uint8))
    factor = max(1, SHOWN_SIDE // baseline.shape[1])
    picture = picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def _shown(image: Pixels) -> Pixels:
    broken = ~np.isfinite(image).all(axis=2, keepdims=True)
    return np.where(broken, np.array(NOT_FINITE, np.float32), image)


def _on_grey(image: Pixels, height: int) -> Pixels:
    below = ((0, height - image.shape[0]), (0, 0), (0, 0))
    return np.pad(image, below, constant_values=0.5)


def save_gallery(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Write a PNG per case into ``folder``, numbered in the order given: the worst first.

    PNGs of an earlier run are deleted, so that the folder shows this one and nothing else.
    """
    for old in folder.glob("*.png"):
        old.unlink()
    return [
        save_picture(folder / f"{place:02d}-{shown.name}.png", shown)
        for place, shown in enumerate(pictures, start=1)
    ]

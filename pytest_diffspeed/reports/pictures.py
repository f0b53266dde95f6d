"""Pictures of what the arms drew: baseline, optimized, and their difference, side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.float32]

AMPLIFY = 8.0
"""The difference is shown this many times as large, since harmless rounding is invisible."""
SHOWN_SIDE = 192
"""Smaller images are enlarged by whole factors to about this many pixels."""


def save_comparison(path: Path, baseline: Pixels, optimized: Pixels) -> Path:
    """Write a PNG of one image: baseline | optimized | amplified difference.

    Both are ``height × width × 3`` in [0, 1], of the same shape; NaN is drawn black.
    """
    shown = np.nan_to_num(optimized)
    difference = np.abs(shown - baseline) * AMPLIFY
    strip = np.clip(np.concatenate([baseline, shown, difference], axis=1), 0.0, 1.0)
    picture = Image.fromarray(np.rint(strip * 255.0).astype(np.uint8))
    factor = max(1, SHOWN_SIDE // baseline.shape[1])
    picture = picture.resize(
        (picture.width * factor, picture.height * factor), Image.Resampling.NEAREST
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path

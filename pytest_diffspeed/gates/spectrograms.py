"""A sound as its spectrogram: baseline, optimized, and the difference of their levels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Waves = npt.NDArray[np.float32]
_Levels = npt.NDArray[np.float64]

PANEL = (376, 256)
"""Width and height of one spectrogram in pixels: three are as wide as a report."""
WINDOW = 1024
RANGE_DB = 80.0
"""Levels are drawn from the baseline's highest down to this much below it."""
DIFFERENCE_DB = 20.0
"""A difference of levels by this much, or more, is the brightest."""
_HEAD, _FOOT, _GAP = 18, 18, 8
_INK = (40, 40, 40)
_NOT_FINITE = (255, 0, 255)
_COLOURS = np.array(
    [(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64
)
"""Matplotlib's magma at its quarters: dark to light also in black and white."""


def spectrograms(baseline: Waves, optimized: Waves, sample_rate_hz: int | None) -> Image.Image:
    """Three panels side by side, low frequencies below, the channels' energies added up.

    Args:
        baseline, optimized: ``channels × samples``; moments that are not finite are magenta.  There
            is no difference where they are not of one shape.
        sample_rate_hz: for the axes; ``None`` where nobody knows it.
    """
    first, second = levels(baseline), levels(optimized)
    top = first.max()
    panels = [
        ("baseline", _coloured((first - top) / RANGE_DB + 1.0, baseline)),
        ("optimized", _coloured((second - top) / RANGE_DB + 1.0, optimized)),
    ]
    if baseline.shape == optimized.shape:
        heard = np.maximum(first, top - RANGE_DB), np.maximum(second, top - RANGE_DB)
        difference = np.abs(heard[1] - heard[0]) / DIFFERENCE_DB
        title = f"difference of levels, up to {DIFFERENCE_DB:.0f} dB"
        panels.append((title, _coloured(difference, optimized)))
    width, height = PANEL
    whole = (len(panels) * (width + _GAP) - _GAP, _HEAD + height + _FOOT)
    picture = Image.new("RGB", whole, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default()
    axes = _axes(baseline.shape[1], sample_rate_hz)
    for place, (title, panel) in enumerate(panels):
        left = place * (width + _GAP)
        picture.paste(panel, (left, _HEAD))
        pen.text((left, 3), title, _INK, font)
        pen.text((left, _HEAD + height + 3), axes, _INK, font)
    return picture


def levels(waves: Waves) -> _Levels:
    """Levels in dB, ``frequencies × moments``, of the energy of all channels; silence is -200."""
    heard = np.nan_to_num(waves.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    size = _window(heard.shape[1])
    padded = np.pad(heard, ((0, 0), (size // 2, size // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)
    frames = frames[:, :: _hop(heard.shape[1])]
    energy = (np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2).sum(axis=0).T
    found: _Levels = 10.0 * np.log10(np.maximum(energy, 1e-20))
    return found


def _window(samples: int) -> int:
    """A power of two, of at most a quarter of the sound where it is short."""
    size = WINDOW
    while size > 32 and size * 4 > samples:
        size //= 2
    return size


def _hop(samples: int) -> int:
    return max(1, samples // PANEL[0])


def _coloured(shares: _Levels, waves: Waves) -> Image.Image:
    clipped = np.clip(shares, 0.0, 1.0)[::-1] * (len(_COLOURS) - 1)
    places = np.arange(len(_COLOURS))
    channels = [np.interp(clipped, places, _COLOURS[:, channel]) for channel in range(3)]
    pixels = np.rint(np.stack(channels, axis=2)).astype(np.uint8)
    broken = ~np.isfinite(waves).all(axis=0)
    if broken.any():
        moments = np.flatnonzero(broken) // _hop(waves.shape[1])
        pixels[:, np.minimum(moments, pixels.shape[1] - 1)] = _NOT_FINITE
    return Image.fromarray(pixels).resize(PANEL, Image.Resampling.BILINEAR)


def _axes(samples: int, rate: int | None) -> str:
    if rate is None:
        return f"{samples} samples; sample rate unknown"
    return f"0 to {samples / rate:.3g} s; 0 to {rate / 2000:.3g} kHz, low below"

"""A video as strips of frames: baseline, optimized, their difference; the worst one marked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Frames = npt.NDArray[np.float32]

COLUMNS = 8
"""Frames that are shown, spread over the video; the worst is always among them."""
SIDE = 132
"""A frame's width in pixels, about: eight of them and the labels are as wide as a report."""
AMPLIFY = 8.0
_LABELS = 84
_HEAD = 18
_GAP = 3
_NOT_FINITE = np.array([1.0, 0.0, 1.0], np.float32)
_WORST = (200, 30, 30)
_INK = (40, 40, 40)


def strips(baseline: Frames, optimized: Frames, worst: int) -> Image.Image:
    """Three rows: baseline, optimized, their difference × 8 where both have the same shape.

    Args:
        baseline, optimized: ``T × C × H × W`` in [0, 1], C = 1 or 3; what is not finite is magenta.
        worst: the index of the frame to mark.
    """
    first, second = _shown(baseline), _shown(optimized)
    rows = [("baseline", first), ("optimized", second)]
    if baseline.shape == optimized.shape:
        difference = np.abs(optimized - baseline) * AMPLIFY
        rows.append((f"difference x {AMPLIFY:.0f}", _shown(difference)))  # the font has no ×
    columns = columns_of(min(len(first), len(second)), worst)
    width, height = _size(first.shape[2], first.shape[1])
    picture = Image.new(
        "RGB",
        (_LABELS + len(columns) * (width + _GAP), _HEAD + len(rows) * (height + _GAP)),
        "white",
    )
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default()
    for place, frame in enumerate(columns):
        left = _LABELS + place * (width + _GAP)
        label = f"{frame + 1} worst" if frame == worst else str(frame + 1)
        pen.text((left, 3), label, fill=_WORST if frame == worst else _INK, font=font)
        for row, (_, frames) in enumerate(rows):
            top = _HEAD + row * (height + _GAP)
            picture.paste(_thumbnail(frames[frame], width, height), (left, top))
        if frame == worst:
            edge = (left - 2, _HEAD - 2, left + width + 1, _HEAD + len(rows) * (height + _GAP) - 2)
            pen.rectangle(edge, outline=_WORST, width=2)
    for row, (label, _) in enumerate(rows):
        pen.text((2, _HEAD + row * (height + _GAP) + height // 2 - 6), label, _INK, font)
    return picture


def columns_of(frames: int, worst: int) -> list[int]:
    """The indices of the frames to show, in order: the first, the last, the worst, and between."""
    number = min(frames, COLUMNS)
    spread = [round(place * (frames - 1) / max(1, number - 1)) for place in range(number)]
    if worst in spread or not 0 <= worst < frames:
        return spread
    middle = spread[1:-1] or spread
    spread.remove(min(middle, key=lambda frame: abs(frame - worst)))
    return sorted([*spread, worst])


def _shown(video: Frames) -> Frames:
    """``T × H × W × 3``."""
    colours = np.broadcast_to(video, (len(video), 3, *video.shape[2:])).transpose(0, 2, 3, 1)
    broken = ~np.isfinite(colours).all(axis=3, keepdims=True)
    return np.where(broken, _NOT_FINITE, colours)


def _size(width: int, height: int) -> tuple[int, int]:
    scale = max(1, SIDE // width) if width < SIDE else SIDE / width
    return max(1, round(width * scale)), max(1, round(height * scale))


def _thumbnail(frame: Frames, width: int, height: int) -> Image.Image:
    pixels = np.rint(np.clip(frame, 0.0, 1.0) * 255.0).astype(np.uint8)
    enlarged = frame.shape[1] <= width
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize((width, height), how)

"""What is wrong with images before any metric is asked: a metric of a broken image is a number too.

A black image has a respectable PSNR against a dark one, and VIF gives it the best score there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from .inputs import RANGE_TOLERANCE, to_float

LEVEL = 1.0 / 255.0
"""One step of an 8-bit image."""
RANGE = "range"
"""Kind of a finding: the values are of another range than [0, 1]."""
BLANK_SHARE = 0.999
"""An image is blank when this share of its pixels is within one 8-bit step of black or of white."""


@dataclass(frozen=True)
class Finding:
    """``image`` is the index in its batch; ``problem`` goes on as in "image 3 is black".

    ``frame`` is the index of the first frame that has the problem, where the output is a video.
    """

    image: int
    kind: str
    problem: str
    frame: int | None = None


def findings(images: Iterable[torch.Tensor]) -> tuple[Finding, ...]:
    """The problems of images ``C × H × W`` (a tensor ``N × C × H × W`` is an iterable of those),
    meant to be finite and in [0, 1], at most one each: the first that holds.
    """
    problems = [(index, problem_of(to_float(image))) for index, image in enumerate(images)]
    return tuple(Finding(index, *problem) for index, problem in problems if problem is not None)


def problem_of(image: torch.Tensor) -> tuple[str, str] | None:
    """Kind and problem of one image ``C × H × W``, ``None`` where nothing is wrong with it."""
    bounds = [torch.aminmax(channel) for channel in image]
    low, high = (
        float(torch.stack([found.min for found in bounds]).min()),
        float(torch.stack([found.max for found in bounds]).max()),
    )
    if not (math.isfinite(low) and math.isfinite(high)):  # both are NaN if a single pixel is
        share = 1.0 - float(torch.isfinite(image).to(torch.float32).mean())
        kind = "NaN" if bool(torch.isnan(image).any()) else "infinite"
        return "not finite", f"has {kind} values ({share:.1%} of them are not finite)"
    if low < -RANGE_TOLERANCE or high > 1.0 + RANGE_TOLERANCE:
        hint = _range_hint(low, high)
        return RANGE, f"has values from {low:.4g} to {high:.4g} instead of [0, 1]{hint}"
    if high <= LEVEL:
        return "blank", "is black"
    if low >= 1.0 - LEVEL:
        return "blank", "is white"
    if all(bool(found.max - found.min <= LEVEL) for found in bounds):
        return "constant", "is of one colour"  # a plain colour is no picture
    dark = image.amax(dim=0) <= LEVEL
    light = image.amin(dim=0) >= 1.0 - LEVEL
    for name, mask in (("black", dark), ("white", light)):
        share = float(mask.to(torch.float32).mean())
        if share >= BLANK_SHARE:
            return "blank", f"is {name} but for {1.0 - share:.2%} of its pixels"
    return None


def _range_hint(low: float, high: float) -> str:
    if low >= 0.0 and 2.0 < high <= 255.0:
        return "; divide by 255"
    if -1.001 <= low < 0.0 and high <= 1.001:
        return "; take (x + 1) / 2 of images in [-1, 1]"
    return ""

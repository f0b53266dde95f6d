"""What is wrong with images before any metric is asked: a metric of a broken image is a number too.

A black image has a respectable PSNR against a dark one, and VIF gives it the best score there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .inputs import RANGE_TOLERANCE

LEVEL = 1.0 / 255.0
"""One step of an 8-bit image."""
BLANK_SHARE = 0.999
"""An image is blank when this share of its pixels is within one 8-bit step of black or of white."""


@dataclass(frozen=True)
class Finding:
    """``image`` is the index in its batch; ``problem`` goes on as in "image 3 is black"."""

    image: int
    kind: str
    problem: str


def findings(images: torch.Tensor) -> tuple[Finding, ...]:
    """The problems of ``N × C × H × W`` images, meant to be finite and in [0, 1], at most one each:
    the first that holds.
    """
    problems = [(index, _problem(image)) for index, image in enumerate(images)]
    return tuple(Finding(index, *problem) for index, problem in problems if problem is not None)


def _problem(image: torch.Tensor) -> tuple[str, str] | None:
    finite = torch.isfinite(image)
    if not bool(finite.all()):
        share = 1.0 - float(finite.to(torch.float32).mean())
        nans = int(torch.isnan(image).sum())
        kind = "NaN" if nans else "infinite"
        return "not finite", f"has {kind} values ({share:.1%} of them are not finite)"
    low, high = float(image.min()), float(image.max())
    if low < -RANGE_TOLERANCE or high > 1.0 + RANGE_TOLERANCE:
        hint = _range_hint(low, high)
        return "range", f"has values from {low:.4g} to {high:.4g} instead of [0, 1]{hint}"
    if high <= LEVEL:
        return "blank", "is black"
    if low >= 1.0 - LEVEL:
        return "blank", "is white"
    if _flat(image):
        return "constant", "is of one colour"
    dark = (image <= LEVEL).all(dim=0)
    light = (image >= 1.0 - LEVEL).all(dim=0)
    for name, mask in (("black", dark), ("white", light)):
        share = float(mask.to(torch.float32).mean())
        if share >= BLANK_SHARE:
            return "blank", f"is {name} but for {1.0 - share:.2%} of its pixels"
    return None


def _flat(image: torch.Tensor) -> bool:
    """Whether each channel is constant: a plain colour is no picture."""
    flat = image.flatten(1)
    return bool((flat.amax(dim=1) - flat.amin(dim=1) <= LEVEL).all())


def _range_hint(low: float, high: float) -> str:
    if low >= 0.0 and 2.0 < high <= 255.0:
        return "; divide by 255"
    if -1.001 <= low < 0.0 and high <= 1.001:
        return "; take (x + 1) / 2 of images in [-1, 1]"
    return ""

"""Model-free comparison: is an image nearer to its own baseline than to what else the model draws?

Fixed limits on PSNR or SSIM do not travel between models; these figures do, since the baseline's
own variety is their unit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch

from .filters import comparison_size
from .inputs import to_float

SMALLEST_DIFFERENCE = 0.05
"""Two of the baseline's images that differ by no more (RMSE) are the same picture: not a yardstick,
and not something to be mistaken for."""

COLUMNS = 2**14
"""That many values of each image are held in double precision at a time."""


@dataclass(frozen=True)
class Ranking:
    """``rank1`` (0 or 1) and ``other_image_ratio`` of each image, ``(N,)``.

    Both are ``None`` where they mean nothing, for the reason in ``unused``.  ``denominator`` is the
    median RMSE between the baseline's images that count as other ones; ``other_seeds`` says whether
    other seeds of the same prompt do.
    """

    rank1: torch.Tensor | None
    other_image_ratio: torch.Tensor | None
    denominator: float | None
    other_seeds: bool
    unused: str | None = None


def rank(
    baseline: torch.Tensor,
    candidate: torch.Tensor,
    prompts: Sequence[Hashable],
    floor_rmse: float = 0.0,
) -> Ranking:
    """Compare each image with its own baseline image and with the baseline's other images.

    Images of other prompts are other images, and so are those of other seeds where seeds decide
    what is drawn (their median distance tells); each only where the two really differ: by more than
    ``floor_rmse`` and by more than .05.  A pipeline whose cases draw the same picture, as an
    unconditional one does for two prompts, has no other image there, and nothing is held to it.

    Args:
        baseline, candidate: ``N × C × H × W`` in [0, 1], in the same order.
        prompts: what each image was drawn from; equal ones are seeds of one prompt.
        floor_rmse: how far the baseline is from itself.
    """
    x, y = (comparison_size(to_float(images)) for images in (baseline, candidate))
    return rank_small(x, y, prompts, floor_rmse)


def rank_small(
    baseline: torch.Tensor,
    candidate: torch.Tensor,
    prompts: Sequence[Hashable],
    floor_rmse: float = 0.0,
    noun: str = "image",
) -> Ranking:
    """The same of images that are at their :func:`~.filters.comparison_size` already, or of
    whatever else a distance between two outputs can be taken of: videos, spectra, ``N × …``.
    """
    x, y = (images.flatten(1) for images in (baseline, candidate))
    own = _rmse(x, y).diagonal()
    between = _rmse(x, x)
    same_prompt = torch.tensor(
        [[first == second for second in prompts] for first in prompts], device=x.device
    )
    seeds = same_prompt & ~torch.eye(len(prompts), dtype=torch.bool, device=x.device)
    threshold = max(SMALLEST_DIFFERENCE, floor_rmse)
    seeds_differ = bool(seeds.any()) and float(between[seeds].median()) > threshold
    others = ~same_prompt | seeds if seeds_differ else ~same_prompt
    if not bool(others.any()):
        reason = (
            f"rank-1 and the other-{noun} ratio need at least two different prompts, or seeds that "
            f"draw different {noun}s"
        )
        return Ranking(None, None, None, False, reason)
    counted = others & (between > threshold)
    if not bool(counted.any(dim=1).all()):
        return Ranking(
            None,
            None,
            float(between[others].median()),
            seeds_differ,
            _too_alike(between.masked_fill(~others, 0.0), floor_rmse, noun),
        )
    to_others = _rmse(y, x).masked_fill(~counted, float("inf"))
    rank1 = (own < to_others.amin(dim=1)).to(torch.float64)
    denominator = float(between[counted].median())
    return Ranking(rank1, own / denominator, denominator, seeds_differ)


def _too_alike(between: torch.Tensor, floor_rmse: float, noun: str) -> str:
    farthest = float(between.amax(dim=1).amin())
    needed = f"more than {SMALLEST_DIFFERENCE}"
    if floor_rmse > SMALLEST_DIFFERENCE:
        needed = f"more than {floor_rmse:.4f}, by which the baseline differs from itself,"
    return (
        f"rank-1 and the other-{noun} ratio are not used: one {noun} of the baseline differs from "
        f"those of the other prompts by {farthest:.4f} RMSE at most, and {needed} is needed to "
        f"call it another {noun}"
    )


def _rmse(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Root mean square difference of each row of ``x`` and each of ``y``, in float64 where the
    device has it; no expansion into products, which would lose small distances.
    """
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    squares = torch.zeros(len(x), len(y), dtype=precise, device=x.device)
    for one, other in zip(x.split(COLUMNS, dim=1), y.split(COLUMNS, dim=1), strict=True):
        parts = one.to(precise), other.to(precise)
        squares += torch.cdist(*parts, compute_mode="donot_use_mm_for_euclid_dist").square()
    return squares.div(x.shape[1]).sqrt()

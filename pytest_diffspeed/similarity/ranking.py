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

SMALLEST_DENOMINATOR = 0.05
"""Where the baseline's images of other prompts differ by less (RMSE), they are no yardstick."""

COLUMNS = 2**14
"""That many values of each image are held in double precision at a time."""


@dataclass(frozen=True)
class Ranking:
    """``rank1`` (0 or 1) and ``other_image_ratio`` of each image, ``(N,)``.

    ``None`` where they mean nothing, for the reason in ``unused``.  ``denominator`` is the median
    RMSE between the baseline's images that count as other ones; ``other_seeds`` says whether other
    seeds of the same prompt do.
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
    """Compare each image with its own baseline image and with those of the other prompts.

    Args:
        baseline, candidate: ``N × C × H × W`` in [0, 1], in the same order.
        prompts: what each image was drawn from; equal ones are seeds of one prompt.
        floor_rmse: how far the baseline is from itself.  Other seeds count as other images where
            they really differ: by more than this and by more than .05.
    """
    x, y = (comparison_size(to_float(images)) for images in (baseline, candidate))
    return rank_small(x, y, prompts, floor_rmse)


def rank_small(
    baseline: torch.Tensor,
    candidate: torch.Tensor,
    prompts: Sequence[Hashable],
    floor_rmse: float = 0.0,
) -> Ranking:
    """The same of images that are at their :func:`~.filters.comparison_size` already."""
    x, y = (images.flatten(1) for images in (baseline, candidate))
    own = _rmse(x, y).diagonal()
    between = _rmse(x, x)
    same_prompt = torch.tensor(
        [[first == second for second in prompts] for first in prompts], device=x.device
    )
    other = ~same_prompt
    if not bool(other.any()):
        reason = "rank-1 and the other-image ratio need at least two different prompts"
        return Ranking(None, None, None, False, reason)
    to_others = _rmse(y, x).masked_fill(same_prompt, float("inf"))
    rank1 = (own < to_others.amin(dim=1)).to(torch.float64)
    seeds = same_prompt & ~torch.eye(len(prompts), dtype=torch.bool, device=x.device)
    seeds_differ = bool(seeds.any()) and float(between[seeds].median()) > max(
        SMALLEST_DENOMINATOR, floor_rmse
    )
    counted = other | seeds if seeds_differ else other
    denominator = float(between[counted].median())
    if denominator < SMALLEST_DENOMINATOR:
        reason = (
            f"the other-image ratio is not used: the baseline's images of different prompts differ "
            f"by {denominator:.4f} RMSE only, less than {SMALLEST_DENOMINATOR}"
        )
        return Ranking(rank1, None, denominator, seeds_differ, reason)
    return Ranking(rank1, own / denominator, denominator, seeds_differ)


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

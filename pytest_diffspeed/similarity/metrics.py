"""Metrics of image pairs: two tensors ``N × C × H × W`` in [0, 1] to one figure an image, ``(N,)``.

All are computed in float64, where the device has it: the local variances of SSIM are differences
of nearly equal numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .filters import WINDOW, average_pool, comparison_size, gaussian_filter
from .inputs import ImageInputError, shape_text

C1 = 0.01**2
C2 = 0.03**2
"""SSIM's stabilizers for a data range of 1 (Wang et al., 2004)."""
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang, Simoncelli, Bovik, 2003)."""


def working_precision(images: torch.Tensor) -> torch.Tensor:
    """In float64; in float32 on devices that have no float64."""
    return images.to(torch.float32 if images.device.type == "mps" else torch.float64)


def mae(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Mean absolute error."""
    return _difference(baseline, candidate).abs().mean(dim=(1, 2, 3))


def max_abs(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """The largest absolute error of any channel of any pixel."""
    return _difference(baseline, candidate).abs().amax(dim=(1, 2, 3))


def psnr(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1; identical images have infinite PSNR."""
    return -10.0 * _difference(baseline, candidate).square().mean(dim=(1, 2, 3)).log10()


def ssim(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """SSIM at full resolution: Gaussian 11-pixel window, sigma 1.5, population covariance, valid
    windows only, the mean over channels.

    It equals scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)``.

    Raises:
        ImageInputError: a side is shorter than the window.
    """
    _require_window(baseline)
    return _one_by_one(baseline, candidate, lambda x, y: _ssim_and_cs(x, y)[0].mean(dim=1))


def ssim_downsampled(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """SSIM after averaging down to about 256 pixels a side, where noise that nobody sees at full
    resolution has averaged out.
    """
    return ssim(comparison_size(baseline), comparison_size(candidate))


def ms_ssim(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Multi-scale SSIM with valid windows: contrast × structure at the finer scales, SSIM at the
    coarsest; channel by channel, then their mean.

    There are five scales where the shorter side has at least 176 pixels.  Smaller images get as
    many as hold a window, with the weights of those scales brought to add up to 1.  A negative
    term counts as 0.

    Raises:
        ImageInputError: a side is shorter than the window.
    """
    _require_window(baseline)
    return _one_by_one(baseline, candidate, _ms_ssim)


def scales(shorter_side: int) -> int:
    """How many scales MS-SSIM has for an image."""
    number = 1
    while number < len(MS_WEIGHTS) and shorter_side // 2**number >= WINDOW:
        number += 1
    return number


def _ms_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    number = scales(min(x.shape[-2:]))
    weights = [weight / sum(MS_WEIGHTS[:number]) for weight in MS_WEIGHTS[:number]]
    product = torch.ones_like(x[:, :, 0, 0])
    for scale, weight in enumerate(weights):
        whole, contrast_structure = _ssim_and_cs(x, y)
        last = scale == number - 1
        product = product * (whole if last else contrast_structure).clamp_min(0.0) ** weight
        if not last:
            x, y = (average_pool(_even(image), 2) for image in (x, y))
    return product.mean(dim=1)


def _even(images: torch.Tensor) -> torch.Tensor:
    """Without the last row or column where their number is odd, so that all blocks are whole."""
    height, width = (side - side % 2 for side in images.shape[-2:])
    return images[..., :height, :width]


def _ssim_and_cs(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM and its contrast-structure part, means over windows: each ``N × C``.

    From sum and difference, since four filtered maps are enough then:
    4 cov = var(x + y) - var(x - y) and 2 (var x + var y) = var(x + y) + var(x - y), means alike.
    """
    total, difference = x + y, x - y
    total_mean, difference_mean = gaussian_filter(total), gaussian_filter(difference)
    total_var = gaussian_filter(total.square()) - total_mean.square()
    difference_var = gaussian_filter(difference.square()) - difference_mean.square()
    contrast_structure = ((total_var - difference_var) / 2 + C2) / (
        (total_var + difference_var) / 2 + C2
    )
    a, b = total_mean.square(), difference_mean.square()
    luminance = ((a - b) / 2 + C1) / ((a + b) / 2 + C1)
    return (luminance * contrast_structure).mean(dim=(2, 3)), contrast_structure.mean(dim=(2, 3))


def _one_by_one(
    baseline: torch.Tensor,
    candidate: torch.Tensor,
    metric: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """In chunks of at most about four megapixels, to bound the memory of the filtered maps."""
    _require_same_shape(baseline, candidate)
    pixels = baseline.shape[-1] * baseline.shape[-2]
    chunk = max(1, 2**22 // pixels)
    parts = [
        metric(working_precision(x), working_precision(y))
        for x, y in zip(baseline.split(chunk), candidate.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def _difference(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    _require_same_shape(baseline, candidate)
    return working_precision(candidate) - working_precision(baseline)


def _require_same_shape(baseline: torch.Tensor, candidate: torch.Tensor) -> None:
    if baseline.shape != candidate.shape:
        raise ImageInputError(
            f"the images differ in shape: {shape_text(baseline)} and {shape_text(candidate)}"
        )


def _require_window(images: torch.Tensor) -> None:
    if min(images.shape[-2:]) < WINDOW:
        height, width = images.shape[-2:]
        raise ImageInputError(
            f"SSIM is not defined for {height} × {width} pixels: its window has {WINDOW} a side"
        )

"""Metrics of image pairs: two tensors ``N × C × H × W`` in [0, 1] to one figure an image, ``(N,)``.

8-bit tensors in 0…255 are read as such.  Errors of pixels are computed in float64 where the device
has it.  SSIM filters in float32 and is exact to about 1e-6: the local variances, differences of
nearly equal numbers, are those of pixels from which the mean around them was subtracted.  Memory
does not grow with the number of images: see :mod:`.blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .blocks import accumulator, blocks
from .filters import WINDOW, average_pool, comparison_size, gaussian_filter
from .inputs import ImageInputError, shape_text, to_float

C1 = 0.01**2
C2 = 0.03**2
"""SSIM's stabilizers for a data range of 1 (Wang et al., 2004)."""
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the scales, finest first (Wang, Simoncelli, Bovik, 2003)."""


@dataclass(frozen=True)
class PixelErrors:
    """Of each image, ``(N,)``."""

    mae: torch.Tensor
    max_abs: torch.Tensor
    psnr: torch.Tensor


def pixel_errors(baseline: torch.Tensor, candidate: torch.Tensor) -> PixelErrors:
    """Mean and largest absolute error and PSNR, in one go."""
    _require_same_shape(baseline, candidate)
    absolute, largest, squared = (accumulator(baseline) for _ in range(3))
    for images, channels, x, y in blocks(baseline, candidate):
        error = (y.to(absolute.dtype) - x.to(absolute.dtype)).abs_()
        where = images, channels
        absolute[where] += error.sum(dim=(2, 3))
        largest[where] = torch.maximum(largest[where], error.amax(dim=(2, 3)))
        squared[where] += error.square_().sum(dim=(2, 3))
    values = baseline[0].numel()
    return PixelErrors(
        absolute.sum(dim=1) / values,
        largest.amax(dim=1),
        -10.0 * (squared.sum(dim=1) / values).log10(),
    )


def mae(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Mean absolute error."""
    return pixel_errors(baseline, candidate).mae


def max_abs(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """The largest absolute error of any channel of any pixel."""
    return pixel_errors(baseline, candidate).max_abs


def psnr(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB for a peak of 1; identical images have infinite PSNR."""
    return pixel_errors(baseline, candidate).psnr


def ssim(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """SSIM at full resolution: Gaussian 11-pixel window, sigma 1.5, population covariance, valid
    windows only, the mean over channels.

    It equals scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)``.

    Raises:
        ImageInputError: a side is shorter than the window.
    """
    _require_window(baseline, candidate)
    return _ssim_and_cs(baseline, candidate)[0].mean(dim=1)


def ssim_downsampled(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """SSIM after averaging down to about 256 pixels a side, where noise that nobody sees at full
    resolution has averaged out.
    """
    _require_same_shape(baseline, candidate)
    return ssim(comparison_size(to_float(baseline)), comparison_size(to_float(candidate)))


def ms_ssim(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Multi-scale SSIM with valid windows: contrast × structure at the finer scales, SSIM at the
    coarsest; channel by channel, then their mean.

    There are five scales where the shorter side has at least 176 pixels.  Smaller images get as
    many as hold a window, with the weights of those scales brought to add up to 1.  A negative
    term counts as 0.

    Raises:
        ImageInputError: a side is shorter than the window.
    """
    return ssim_and_ms_ssim(baseline, candidate)[1]


def ssim_and_ms_ssim(
    baseline: torch.Tensor, candidate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both, at the price of one: the finest scale of MS-SSIM is where SSIM is taken."""
    _require_window(baseline, candidate)
    number = scales(min(baseline.shape[-2:]))
    weights = [weight / sum(MS_WEIGHTS[:number]) for weight in MS_WEIGHTS[:number]]
    full, contrast_structure = _ssim_and_cs(baseline, candidate)
    whole, product = full, torch.ones_like(full)
    x, y = baseline, candidate
    for scale, weight in enumerate(weights):
        if scale:
            x, y = (average_pool(_even(to_float(pixels)), 2) for pixels in (x, y))
            whole, contrast_structure = _ssim_and_cs(x, y)
        term = whole if scale == number - 1 else contrast_structure
        product = product * term.clamp_min(0.0) ** weight
    return full.mean(dim=1), product.mean(dim=1)


def scales(shorter_side: int) -> int:
    """How many scales MS-SSIM has for an image."""
    number = 1
    while number < len(MS_WEIGHTS) and shorter_side // 2**number >= WINDOW:
        number += 1
    return number


def _even(images: torch.Tensor) -> torch.Tensor:
    """Without the last row or column where their number is odd, so that all blocks are whole."""
    height, width = (side - side % 2 for side in images.shape[-2:])
    return images[..., :height, :width]


def _ssim_and_cs(
    baseline: torch.Tensor, candidate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """SSIM and its contrast-structure part, means over windows: each ``N × C``."""
    whole, contrast_structure = accumulator(baseline), accumulator(baseline)
    for images, channels, x, y in blocks(baseline, candidate, halo=WINDOW - 1):
        sums = _sums_of_block(x, y)
        for total, part in zip((whole, contrast_structure), sums, strict=True):
            total[images, channels] += part.to(total.dtype)
    height, width = (side - WINDOW + 1 for side in baseline.shape[-2:])
    return whole / (height * width), contrast_structure / (height * width)


def _sums_of_block(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, sums over the windows of a block.

    From sum and difference, since four filtered maps are enough then:
    4 cov = var(x + y) - var(x - y) and 2 (var x + var y) = var(x + y) + var(x - y), means alike.
    """
    (total_mean, total_var), (difference_mean, difference_var) = _moments(x + y), _moments(x - y)
    contrast_structure = ((total_var - difference_var) / 2).add_(C2)
    contrast_structure.div_(((total_var + difference_var) / 2).add_(C2))
    a, b = total_mean.square_(), difference_mean.square_()
    luminance = ((a - b) / 2).add_(C1).div_(((a + b) / 2).add_(C1))
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    structure = contrast_structure.sum(dim=(2, 3), dtype=precise)
    return luminance.mul_(contrast_structure).sum(dim=(2, 3), dtype=precise), structure


def _moments(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance in each window, in float32.

    A variance does not change when a constant is subtracted first, and its rounding error becomes
    that of the deviation from the block's mean: nothing where the block is flat.
    """
    center = values.mean(dim=(2, 3), keepdim=True)
    deviation = (values - center).to(torch.float32)
    mean = gaussian_filter(deviation)
    variance = gaussian_filter(deviation.square_()).sub_(mean.square())
    return mean.add_(center.to(torch.float32)), variance


def _require_same_shape(baseline: torch.Tensor, candidate: torch.Tensor) -> None:
    if baseline.shape != candidate.shape:
        raise ImageInputError(
            f"the images differ in shape: {shape_text(baseline)} and {shape_text(candidate)}"
        )


def _require_window(baseline: torch.Tensor, candidate: torch.Tensor) -> None:
    _require_same_shape(baseline, candidate)
    height, width = baseline.shape[-2:]
    if min(height, width) < WINDOW:
        raise ImageInputError(
            f"SSIM is not defined for {height} × {width} pixels: its window has {WINDOW} a side"
        )

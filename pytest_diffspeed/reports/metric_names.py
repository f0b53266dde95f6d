"""What the metrics of ``image_similarity`` are called in reports, with their units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .loose import word

_NAMES = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "ssim_full": "SSIM at full size",
    "ms_ssim": "MS-SSIM",
    "mae": "mean difference",
    "max_abs": "largest difference",
    "flicker": "flicker",
    "snr": "SNR, dB",
    "spectral_distance": "spectral distance",
    "log_spectral_distance": "spectral levels, dB",
    "other_image_ratio": "other-image ratio",
    "rank1": "rank-1",
    "latent_l2": "latents, relative L2",
    "denoiser_l2": "denoiser, relative L2",
}
_RATIOS = {"video": "other-video ratio", "audio": "other-sound ratio"}


def metric_name(metric: str, figures: Mapping[str, Any]) -> str:
    """``PSNR, dB``; one that is not known goes by its own name."""
    if metric == "other_image_ratio":
        return _RATIOS.get(word(figures.get("output")) or "", _NAMES[metric])
    return _NAMES.get(metric, metric)


def short_metric_name(metric: str, figures: Mapping[str, Any]) -> str:
    """The same without the unit."""
    return metric_name(metric, figures).partition(",")[0]

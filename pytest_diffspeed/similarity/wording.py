"""What metrics are called where people read them, and how their figures are written."""

from __future__ import annotations

from .presets import AUDIO, IMAGE, IN_DECIBELS, VIDEO

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
_RATIOS = {VIDEO: "other-video ratio", AUDIO: "other-sound ratio"}


def metric_name(metric: str, medium: str = IMAGE) -> str:
    """``PSNR, dB``; one that is not known goes by its own name."""
    if metric == "other_image_ratio":
        return _RATIOS.get(medium, _NAMES[metric])
    return _NAMES.get(metric, metric)


def short_metric_name(metric: str, medium: str = IMAGE) -> str:
    """The same without the unit."""
    return metric_name(metric, medium).partition(",")[0]


def figure_text(metric: str, medium: str, mean: float, worst: float) -> str:
    """``PSNR 34.1 (20.3) dB``: the mean, and the worst in brackets."""
    word = short_metric_name(metric, medium)
    if metric in IN_DECIBELS:
        return f"{word} {mean:.1f} ({worst:.1f}) dB"
    if metric == "log_spectral_distance":
        return f"{word} {mean:.3g} ({worst:.3g}) dB"
    if metric == "rank1":
        return f"{word} {mean:.0%}"
    if metric == "denoiser_l2":  # one figure for all cases
        return f"{word} {mean:.3g}"
    if metric in ("ssim", "ssim_full", "ms_ssim"):
        return f"{word} {mean:.4f} ({worst:.4f})"
    return f"{word} {mean:.3g} ({worst:.3g})"

"""Limits for one technique on one pipeline, proposed from what it scored, with a margin."""

from __future__ import annotations

import math
from collections.abc import Mapping

from .presets import HIGHER_IS_BETTER, HIGHEST_DB, IN_DECIBELS, KINDS, met
from .report import SimilarityReport

MARGIN = 1.5
"""Proposed limits allow errors this many times as large as the ones that were measured."""
LEAST_ERRORS = {
    "psnr": 1e-3,
    "ssim": 1e-3,
    "ms_ssim": 1e-3,
    "flicker": 1e-3,
    "snr": 2e-3,
    "spectral_distance": 2e-3,
    "other_image_ratio": 5e-3,
}
"""No limit is stricter than this (PSNR and SNR: as RMSE, so 60 and 54 dB; SSIM: as 1 - SSIM), since
other kernels alone move what is drawn."""
LOOSEST = {
    "ssim_mean": 0.60,
    "snr_mean": 6.0,
    "other_image_ratio_mean": 0.65,
    "rank1_mean": 0.90,
}
"""Beyond these an output is hardly its baseline's any more, on any model.  On a 50-step DDPM,
reusing every second step has a ratio of .35 to .40 and an SSIM of .88; broken 4-bit weights have
.85 and .20, another seed 1.0 and .03 to .08.  Another sound of the same loudness has an SNR of
-3 dB, and at 6 dB the error has half of the sound's level."""


class CannotCalibrateError(ValueError):
    """The images are too far from the baseline's for limits to mean anything."""


def propose_limits(
    report: SimilarityReport,
    floor: Mapping[str, tuple[float, float]] | None = None,
    margin: float = MARGIN,
) -> dict[str, float]:
    """Limits that this technique meets: on PSNR, SSIM and MS-SSIM of images, on flicker too of
    videos, on SNR and spectral distance of audio; on the other-image ratio and rank-1 of all.

    Each error (RMSE, 1 - SSIM, ratio, distance), or that of the baseline against itself where it is
    larger, times ``margin``, on the mean and on the worst output.  Rank-1 must stay what it was.

    The presets are no bound here: they are fitted on one model, and on another one the same
    technique may move images further.

    Raises:
        ValueError: the margin is below 1.
        CannotCalibrateError: an output is broken, or :data:`LOOSEST` is missed.
    """
    if not margin >= 1.0:
        raise ValueError(f"the margin must be at least 1, not {margin!r}")
    if report.findings:
        raise CannotCalibrateError(f"no limits for broken outputs: {report.reason}")
    for limit, bound in LOOSEST.items():
        metric, _, kind = limit.rpartition("_")
        figure = report.metrics.get(metric, (bound, bound))[KINDS.index(kind)]
        if not met(limit, figure, bound):
            raise CannotCalibrateError(
                f"{limit} is {figure:.4g}, and beyond {bound:.4g} an image is hardly its own; "
                "limits fitted to that would let anything pass"
            )
    proposed: dict[str, float] = {}
    for metric, least in LEAST_ERRORS.items():
        if metric not in report.metrics:
            continue
        for kind, found, own in zip(
            KINDS, report.metrics[metric], _own(metric, floor or {}), strict=True
        ):
            error = max(_error(metric, found), _error(metric, own), least / margin)
            proposed[f"{metric}_{kind}"] = _figure(metric, error * margin)
    if "rank1" in report.metrics:
        mean, worst = report.metrics["rank1"]
        proposed["rank1_mean"] = mean
        if worst == 1.0:
            proposed["rank1_worst"] = 1.0
    return proposed


def _own(metric: str, floor: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    best = HIGHEST_DB if metric in IN_DECIBELS else float(HIGHER_IS_BETTER[metric])
    return floor.get(metric, (best, best))


def _error(metric: str, figure: float) -> float:
    """Something that is 0 for identical images and grows with the difference."""
    if metric in IN_DECIBELS:
        return float(10.0 ** (-figure / 20.0))
    return 1.0 - figure if HIGHER_IS_BETTER[metric] else figure


def _figure(metric: str, error: float) -> float:
    """The inverse of :func:`_error`, in digits that can be read, rounded to the lenient side."""
    if metric in IN_DECIBELS:
        return math.floor(-200.0 * math.log10(error)) / 10.0
    if HIGHER_IS_BETTER[metric]:
        return math.floor((1.0 - error) * 1e4) / 1e4
    return math.ceil(error * 1e4) / 1e4

"""Limits: what a metric must reach on the mean and on the worst image, one by one or by preset.

The figures of the presets are fitted on the trained demo pipeline; ``docs/image_similarity.md`` has
the table that they come from, and the command that makes it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

HIGHER_IS_BETTER = MappingProxyType(
    {
        "psnr": True,
        "ssim": True,
        "ssim_full": True,
        "ms_ssim": True,
        "mae": False,
        "max_abs": False,
        "other_image_ratio": False,
        "rank1": True,
        "latent_l2": False,
        "denoiser_l2": False,
        "lpips": False,
        "flip": False,
    }
)
"""Every metric, in the order of reports.  ``ssim`` is the down-sampled one."""
METRICS = tuple(HIGHER_IS_BETTER)
KINDS = ("mean", "worst")
LIMIT_NAMES = tuple(f"{metric}_{kind}" for metric in METRICS for kind in KINDS)
HIGHEST_PSNR = 100.0
"""Identical images have infinite PSNR; means count them as this many dB, so that one of them cannot
hide the others."""

# metric: (mean, worst)
_PRESETS: dict[str, dict[str, tuple[float, float]]] = {
    "exact": {
        "psnr": (55.0, 52.0),
        "ssim": (0.9995, 0.999),
        "other_image_ratio": (0.006, 0.008),
        "rank1": (1.0, 1.0),
    },
    "lossless": {
        "psnr": (42.0, 39.0),
        "ssim": (0.994, 0.988),
        "other_image_ratio": (0.025, 0.035),
        "rank1": (1.0, 1.0),
    },
    "int8": {
        "psnr": (38.5, 36.5),
        "ssim": (0.991, 0.984),
        "other_image_ratio": (0.035, 0.044),
        "rank1": (1.0, 1.0),
    },
    "w8a8": {
        "psnr": (34.0, 32.5),
        "ssim": (0.980, 0.970),
        "other_image_ratio": (0.060, 0.075),
        "rank1": (1.0, 1.0),
    },
    "int4": {
        "psnr": (33.5, 32.0),
        "ssim": (0.978, 0.965),
        "other_image_ratio": (0.065, 0.080),
        "rank1": (1.0, 1.0),
    },
    "cache": {
        "psnr": (33.0, 31.0),
        "ssim": (0.975, 0.960),
        "other_image_ratio": (0.070, 0.085),
        "rank1": (1.0, 1.0),
    },
}
PRESETS = MappingProxyType(
    {
        preset: MappingProxyType(
            {
                f"{metric}_{kind}": bound
                for metric, bounds in metrics.items()
                for kind, bound in zip(KINDS, bounds, strict=True)
            }
        )
        for preset, metrics in _PRESETS.items()
    }
)
"""From the strictest to the loosest: what passes one passes all that follow."""


class LimitError(ValueError):
    """A preset or a limit that makes no sense."""


@dataclass(frozen=True)
class Miss:
    """A limit that was not met; ``image`` is the index of the worst image for this metric."""

    limit: str
    found: float
    bound: float
    image: int

    def __str__(self) -> str:
        sign = "≥" if HIGHER_IS_BETTER[metric_of(self.limit)] else "≤"
        return f"{self.limit} is {self.found:.4g}, need {sign} {self.bound:.4g}"


def metric_of(limit: str) -> str:
    """``"psnr"`` of ``"psnr_worst"``."""
    return limit.rpartition("_")[0]


def limits_of(preset: str | None, overrides: Mapping[str, float]) -> dict[str, float]:
    """The preset's limits with those of ``overrides`` in their place or beside them.

    Raises:
        LimitError: an unknown preset or limit, or a bound that is no finite number.
    """
    limits: dict[str, float] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise LimitError(f"no preset is called {preset!r}; {_nearest(preset, tuple(PRESETS))}")
        limits.update(PRESETS[preset])
    for name, bound in overrides.items():
        if name not in LIMIT_NAMES:
            raise LimitError(f"no limit is called {name!r}; {_nearest(name, LIMIT_NAMES)}")
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise LimitError(f"{name} must be a number, not {bound!r}")
        if not math.isfinite(bound):
            raise LimitError(f"{name} must be finite, not {bound!r}")
        limits[name] = float(bound)
    return limits


def met(limit: str, found: float, bound: float) -> bool:
    """Whether ``found`` meets ``bound``; NaN meets nothing."""
    return found >= bound if HIGHER_IS_BETTER[metric_of(limit)] else found <= bound


def _nearest(word: str, valid: tuple[str, ...]) -> str:
    match = difflib.get_close_matches(word, valid, n=1)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}Valid: {', '.join(valid)}."

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
_PRESETS: dict[str, dict[str, tuple[float, float | None]]] = {
    "exact": {
        "psnr": (45.0, 40.0),
        "ssim": (0.995, 0.99),
        "other_image_ratio": (0.02, 0.05),
        "rank1": (1.0, 1.0),
    },
    "lossless": {
        "psnr": (25.0, 17.0),
        "ssim": (0.90, 0.75),
        "other_image_ratio": (0.25, 0.50),
        "rank1": (1.0, 1.0),
    },
    "int8": {
        "psnr": (22.0, 15.0),
        "ssim": (0.85, 0.70),
        "other_image_ratio": (0.30, 0.55),
        "rank1": (1.0, 1.0),
    },
    "w8a8": {
        "psnr": (18.0, 12.0),
        "ssim": (0.75, 0.50),
        "other_image_ratio": (0.50, 0.80),
        "rank1": (0.95, None),
    },
    "int4": {
        "psnr": (16.0, 11.0),
        "ssim": (0.65, 0.45),
        "other_image_ratio": (0.60, 0.85),
        "rank1": (0.90, None),
    },
    "cache": {
        "psnr": (15.0, 10.0),
        "ssim": (0.60, 0.35),
        "other_image_ratio": (0.65, 0.95),
        "rank1": (0.90, None),
    },
}
PRESETS = MappingProxyType(
    {
        preset: MappingProxyType(
            {
                f"{metric}_{kind}": bound
                for metric, bounds in metrics.items()
                for kind, bound in zip(KINDS, bounds, strict=True)
                if bound is not None
            }
        )
        for preset, metrics in _PRESETS.items()
    }
)
"""From the strictest to the loosest: what passes one passes all that follow."""


class LimitError(ValueError):
    """A preset or a limit that cannot be meant."""


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

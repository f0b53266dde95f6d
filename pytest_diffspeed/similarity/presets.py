"""Limits: what a metric must reach on the mean and on the worst output, one by one or by preset.

The figures of the presets are fitted on the images of the trained demo pipeline;
``docs/image_similarity.md`` has the table that they come from, and the command that makes it.
Those for video and audio follow from them by arithmetic and are not calibrated.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

MEDIA = IMAGE, VIDEO, AUDIO = "image", "video", "audio"
"""What a pipeline may give."""

HIGHER_IS_BETTER = MappingProxyType(
    {
        "psnr": True,
        "ssim": True,
        "ssim_full": True,
        "ms_ssim": True,
        "mae": False,
        "max_abs": False,
        "flicker": False,
        "snr": True,
        "spectral_distance": False,
        "log_spectral_distance": False,
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
_OF_SOUND = ("snr", "spectral_distance", "log_spectral_distance")
_OF_ALL = ("other_image_ratio", "rank1", "latent_l2", "denoiser_l2")
_OF_VIDEO = tuple(metric for metric in METRICS if metric not in _OF_SOUND)
METRICS_OF = MappingProxyType(
    {
        IMAGE: tuple(metric for metric in _OF_VIDEO if metric != "flicker"),
        VIDEO: _OF_VIDEO,
        AUDIO: (*_OF_SOUND, *_OF_ALL),
    }
)
"""Those that an output of a medium has; those of images are taken of each frame of a video."""
IN_DECIBELS = ("psnr", "snr")
KINDS = ("mean", "worst")
LIMIT_NAMES = tuple(f"{metric}_{kind}" for metric in METRICS for kind in KINDS)
HIGHEST_DB = 100.0
"""Identical outputs have infinite PSNR and SNR; means count them as this many dB, so that one of
them cannot hide the others."""

Preset = Literal["exact", "lossless", "int8", "w8a8", "int4", "cache", "fewer_steps", "tiles"]
"""Those of :data:`PRESETS_OF`."""

# metric: (mean, worst)
_PRESETS: dict[Preset, dict[str, tuple[float, float]]] = {
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
    # Another way through the same noise: between 8 of the demo's 20 steps, by Euler or DPM-Solver++
    # (32.6 / 30.9 dB), and the mildest of what is broken or as far off (29.6 / 28.3 dB).
    "fewer_steps": {
        "psnr": (31.0, 29.5),
        "ssim": (0.967, 0.953),
        "other_image_ratio": (0.083, 0.098),
        "rank1": (1.0, 1.0),
    },
    # Colours of tiles differ: between tiles of 48 of the demo's 64 pixels (31.3 / 28.2 dB) and the
    # mildest of what is broken (29.7 dB on average).
    "tiles": {
        "psnr": (30.4, 27.6),
        "ssim": (0.955, 0.910),
        "other_image_ratio": (0.090, 0.125),
        "rank1": (1.0, 1.0),
    },
}
FEWER_STEPS = "fewer_steps"
"""Of stacks that change the schedule."""
TILES = "tiles"
"""Of stacks whose VAE decodes in tiles."""
SIGNAL_DB = 6.0
"""PSNR - SNR of a signal whose RMS is half of its peak, as that of an ordinary picture is about."""


def _error(decibels: float) -> float:
    return float(10.0 ** (-decibels / 20.0))


def _for_video(metrics: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Flicker up to that of an error which is new in each frame and has the PSNR that is allowed:
    sqrt(2) times its RMSE.  One that alternates from frame to frame has 2 times.
    """
    mean, worst = (math.ceil(math.sqrt(2.0) * _error(db) * 1e4) / 1e4 for db in metrics["psnr"])
    return {**metrics, "flicker": (mean, worst)}


def _for_audio(metrics: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """The SNR of a picture with the PSNR that is allowed, and the spectral distance that an error
    of this SNR can have at most.
    """
    snr = metrics["psnr"][0] - SIGNAL_DB, metrics["psnr"][1] - SIGNAL_DB
    mean, worst = (math.ceil(_error(db) * 1e4) / 1e4 for db in snr)
    kept = {name: metrics[name] for name in ("other_image_ratio", "rank1")}
    return {"snr": snr, "spectral_distance": (mean, worst), **kept}


def _presets(
    of: Callable[[dict[str, tuple[float, float]]], dict[str, tuple[float, float]]],
) -> Mapping[str, Mapping[str, float]]:
    return MappingProxyType(
        {
            preset: MappingProxyType(
                {
                    f"{metric}_{kind}": bound
                    for metric, bounds in of(metrics).items()
                    for kind, bound in zip(KINDS, bounds, strict=True)
                }
            )
            for preset, metrics in _PRESETS.items()
        }
    )


PRESETS_OF = MappingProxyType(
    {IMAGE: _presets(dict), VIDEO: _presets(_for_video), AUDIO: _presets(_for_audio)}
)
"""Of each medium, from the strictest to the loosest: what passes one passes all that follow."""
PRESETS = PRESETS_OF[IMAGE]
UNCALIBRATED = MappingProxyType(
    {
        VIDEO: "this preset is uncalibrated for video: its limits on frames are those of images",
        AUDIO: "this preset is uncalibrated for audio: its limits follow from those of images",
    }
)
"""What the line of a preset says of media on which nobody fitted it."""


class LimitError(ValueError):
    """A preset or a limit that makes no sense."""


class LimitTypeError(LimitError, TypeError):
    """A preset or a limit of another type than text and number."""


ARGUMENTS = ("preset", "prompts", "seeds", "layout", "given", "floor", "floor_rmse")
"""Words that a comparison takes beside limits: one of them may be meant by a misspelt limit."""


@dataclass(frozen=True)
class Miss:
    """A limit that was not met; ``image`` is the index of the worst output for this metric, and
    ``frame`` that of its worst frame where it is a video.
    """

    limit: str
    found: float
    bound: float
    image: int
    frame: int | None = None

    def __str__(self) -> str:
        sign = "≥" if HIGHER_IS_BETTER[metric_of(self.limit)] else "≤"
        return f"{self.limit} is {self.found:.4g}, need {sign} {self.bound:.4g}"


def metric_of(limit: str) -> str:
    """``"psnr"`` of ``"psnr_worst"``."""
    return limit.rpartition("_")[0]


def limits_of(
    preset: str | None, overrides: Mapping[str, float], medium: str = IMAGE
) -> dict[str, float]:
    """The preset's limits with those of ``overrides`` in their place or beside them.

    Raises:
        LimitError: an unknown preset or limit, a limit that this medium does not have, or a bound
            that is not a finite number.
    """
    limits: dict[str, float] = {}
    if preset is not None:
        known = get_args(Preset)
        if not isinstance(preset, str):
            raise LimitTypeError(
                f"preset must be one of {', '.join(known)}, not of type {type(preset).__name__}"
            )
        if preset not in known:
            raise LimitError(f"no preset is called {preset!r}; {_nearest(preset, known)}")
        limits.update(PRESETS_OF[medium][preset])
    for name, bound in overrides.items():
        require_limit(name, also=ARGUMENTS)
        if metric_of(name) not in METRICS_OF[medium]:
            others = " and ".join(m for m in MEDIA if metric_of(name) in METRICS_OF[m])
            raise LimitError(
                f"{name} is a limit for {others}, and {medium} has no {metric_of(name)}; "
                f"limit one of {', '.join(METRICS_OF[medium])} instead"
            )
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise LimitTypeError(f"{name} must be a number such as 20.0, not {bound!r}")
        if not math.isfinite(bound):
            raise LimitError(f"{name} must be finite, not {bound!r}")
        limits[name] = float(bound)
    return limits


def require_limit(name: str, also: tuple[str, ...] = ()) -> None:
    """Whether any medium has it is another question; ``also`` may be meant too.

    Raises:
        LimitError: no limit is called like that.
    """
    if name not in LIMIT_NAMES:
        known = (*also, *LIMIT_NAMES)
        raise LimitError(f"no limit is called {name!r}; {_nearest(name, known)}")


def met(limit: str, found: float, bound: float) -> bool:
    """Whether ``found`` meets ``bound``; NaN meets nothing."""
    return found >= bound if HIGHER_IS_BETTER[metric_of(limit)] else found <= bound


def _nearest(word: str, valid: tuple[str, ...]) -> str:
    match = difflib.get_close_matches(word, valid, n=1)
    hint = f"did you mean {match[0]!r}? " if match else ""
    return f"{hint}Valid: {', '.join(valid)}."

"""Are these the same pictures, videos, sounds?  A library of its own: torch and NumPy only.

Outputs are compared as floats, on the device where they are.  See :func:`compare_images`,
:func:`compare_videos` and :func:`compare_audio`, and ``docs/image_similarity.md`` for what each
figure means.

The names below are resolved on first use, so that limits and presets can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .audio import as_waves as as_waves
    from .audio import audio_findings as audio_findings
    from .audio import compare_audio as compare_audio
    from .compare import compare_images as compare_images
    from .denoising import relative_l2 as relative_l2
    from .denoising import teacher_forced as teacher_forced
    from .extras import ExtraUnavailableError as ExtraUnavailableError
    from .inputs import ImageInputError as ImageInputError
    from .inputs import as_images as as_images
    from .metrics import mae as mae
    from .metrics import max_abs as max_abs
    from .metrics import ms_ssim as ms_ssim
    from .metrics import psnr as psnr
    from .metrics import ssim as ssim
    from .metrics import ssim_downsampled as ssim_downsampled
    from .presets import AUDIO as AUDIO
    from .presets import IMAGE as IMAGE
    from .presets import LIMIT_NAMES as LIMIT_NAMES
    from .presets import MEDIA as MEDIA
    from .presets import METRICS as METRICS
    from .presets import METRICS_OF as METRICS_OF
    from .presets import PRESETS as PRESETS
    from .presets import PRESETS_OF as PRESETS_OF
    from .presets import VIDEO as VIDEO
    from .presets import LimitError as LimitError
    from .presets import Miss as Miss
    from .ranking import Ranking as Ranking
    from .ranking import rank as rank
    from .report import SimilarityReport as SimilarityReport
    from .report import SkippedMetricWarning as SkippedMetricWarning
    from .report import not_checked as not_checked
    from .sanity import Finding as Finding
    from .sanity import findings as findings
    from .spectra import signal_to_noise as signal_to_noise
    from .spectra import spectral_distances as spectral_distances
    from .video import compare_videos as compare_videos
    from .video import flicker as flicker
    from .video import read_videos as read_videos
    from .video import video_findings as video_findings

_PUBLIC = {
    "as_waves": "audio",
    "audio_findings": "audio",
    "compare_audio": "audio",
    "compare_images": "compare",
    "relative_l2": "denoising",
    "teacher_forced": "denoising",
    "ExtraUnavailableError": "extras",
    "ImageInputError": "inputs",
    "as_images": "inputs",
    "mae": "metrics",
    "max_abs": "metrics",
    "ms_ssim": "metrics",
    "psnr": "metrics",
    "ssim": "metrics",
    "ssim_downsampled": "metrics",
    "AUDIO": "presets",
    "IMAGE": "presets",
    "LIMIT_NAMES": "presets",
    "MEDIA": "presets",
    "METRICS": "presets",
    "METRICS_OF": "presets",
    "PRESETS": "presets",
    "PRESETS_OF": "presets",
    "VIDEO": "presets",
    "LimitError": "presets",
    "Miss": "presets",
    "Ranking": "ranking",
    "rank": "ranking",
    "SimilarityReport": "report",
    "SkippedMetricWarning": "report",
    "not_checked": "report",
    "Finding": "sanity",
    "findings": "sanity",
    "signal_to_noise": "spectra",
    "spectral_distances": "spectra",
    "compare_videos": "video",
    "flicker": "video",
    "read_videos": "video",
    "video_findings": "video",
}

__all__ = [
    "AUDIO",
    "IMAGE",
    "LIMIT_NAMES",
    "MEDIA",
    "METRICS",
    "METRICS_OF",
    "PRESETS",
    "PRESETS_OF",
    "VIDEO",
    "ExtraUnavailableError",
    "Finding",
    "ImageInputError",
    "LimitError",
    "Miss",
    "Ranking",
    "SimilarityReport",
    "SkippedMetricWarning",
    "as_images",
    "as_waves",
    "audio_findings",
    "compare_audio",
    "compare_images",
    "compare_videos",
    "findings",
    "flicker",
    "mae",
    "max_abs",
    "ms_ssim",
    "not_checked",
    "psnr",
    "rank",
    "read_videos",
    "relative_l2",
    "signal_to_noise",
    "spectral_distances",
    "ssim",
    "ssim_downsampled",
    "teacher_forced",
    "video_findings",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)

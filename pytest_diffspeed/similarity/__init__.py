"""Are these the same pictures?  A library of its own: torch and NumPy, nothing else.

Images are compared as floats in [0, 1], on the device where they are.  See
:func:`compare_images`, and ``docs/image_similarity.md`` for what each figure means.

The names below are resolved on first use, so that limits and presets can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .compare import SimilarityReport as SimilarityReport
    from .compare import SkippedMetricWarning as SkippedMetricWarning
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
    from .presets import LIMIT_NAMES as LIMIT_NAMES
    from .presets import METRICS as METRICS
    from .presets import PRESETS as PRESETS
    from .presets import LimitError as LimitError
    from .presets import Miss as Miss
    from .ranking import Ranking as Ranking
    from .ranking import rank as rank
    from .sanity import Finding as Finding
    from .sanity import findings as findings

_PUBLIC = {
    "SimilarityReport": "compare",
    "SkippedMetricWarning": "compare",
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
    "LIMIT_NAMES": "presets",
    "METRICS": "presets",
    "PRESETS": "presets",
    "LimitError": "presets",
    "Miss": "presets",
    "Ranking": "ranking",
    "rank": "ranking",
    "Finding": "sanity",
    "findings": "sanity",
}

__all__ = [
    "LIMIT_NAMES",
    "METRICS",
    "PRESETS",
    "ExtraUnavailableError",
    "Finding",
    "ImageInputError",
    "LimitError",
    "Miss",
    "Ranking",
    "SimilarityReport",
    "SkippedMetricWarning",
    "as_images",
    "compare_images",
    "findings",
    "mae",
    "max_abs",
    "ms_ssim",
    "psnr",
    "rank",
    "relative_l2",
    "ssim",
    "ssim_downsampled",
    "teacher_forced",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)

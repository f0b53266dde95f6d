"""Are these the same pictures?  A library of its own: torch and NumPy, nothing else.

Images are compared as floats in [0, 1], on the device where they are.  See
:func:`compare_images`, and ``docs/image_similarity.md`` for what each figure means.
"""

from .compare import SimilarityReport, SkippedMetricWarning, compare_images
from .denoising import relative_l2, teacher_forced
from .extras import ExtraUnavailableError
from .inputs import ImageInputError, as_images
from .metrics import mae, max_abs, ms_ssim, psnr, ssim, ssim_downsampled
from .presets import LIMIT_NAMES, METRICS, PRESETS, LimitError, Miss
from .ranking import Ranking, rank
from .sanity import Finding, findings

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

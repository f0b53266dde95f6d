"""What the metrics of ``image_similarity`` are called in reports, with their units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..similarity import wording
from .loose import word


def metric_name(metric: str, figures: Mapping[str, Any]) -> str:
    """``PSNR, dB``; one that is not known goes by its own name."""
    return wording.metric_name(metric, word(figures.get("output")) or "")


def short_metric_name(metric: str, figures: Mapping[str, Any]) -> str:
    """The same without the unit."""
    return wording.short_metric_name(metric, word(figures.get("output")) or "")

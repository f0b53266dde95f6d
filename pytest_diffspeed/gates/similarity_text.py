"""What ``image_similarity`` found, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..similarity.wording import figure_text

if TYPE_CHECKING:
    from ..similarity import SimilarityReport
    from .baseline_images import BaselineImages


def found_text(report: SimilarityReport, reference: BaselineImages) -> str:
    """Every metric (mean, worst in brackets), the floor beside it, and what the reader must know:
    ``8 images: PSNR 34.1 (20.3) dB, SSIM 0.981 (0.940), …``.
    """
    from ..similarity import VIDEO, not_checked
    from ..similarity.report import NOUNS

    noun = NOUNS[report.medium]
    many = f"{len(reference.cases)} {noun}s"
    if report.medium == VIDEO:
        many += f" of {reference.drawn.data.shape[1]} frames"
    metrics = ", ".join(
        figure_text(name, report.medium, *pair) for name, pair in report.metrics.items()
    )
    parts = [f"{many}: {metrics}" if metrics else report.reason]
    if report.medium == VIDEO and metrics:
        first = report.order[0]
        parts.append(f"worst: {report.labels[first]}, frame {report.worst_frame[first] + 1}")
    if report.denominator is not None:
        of_what = " of spectra" if noun == "sound" else ""
        parts.append(f"other {noun}s differ by {report.denominator:.3f} RMSE{of_what}")
    parts.append(f"floor: {reference.floor.again}; with other kernels {reference.floor.kernels}")
    parts += not_checked(report.skipped)
    parts += [note for note in report.notes if note not in report.skipped.values()]
    if reference.drawn.left_out:
        parts.append(f"NOT COMPARED: the call's {', '.join(reference.drawn.left_out)}")
    return "; ".join(parts)

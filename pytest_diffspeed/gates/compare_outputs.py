"""Two sets of outputs, compared by what is right for images, videos or sounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..common.errors import MeasurementError, UsageError
from ..pipelines.outputs import AUDIO, IMAGE, VIDEO, medium_of_batch
from ..similarity import (
    Finding,
    ImageInputError,
    LimitError,
    SimilarityReport,
    audio_findings,
    compare_audio,
    compare_images,
    compare_videos,
    findings,
    read_videos,
    video_findings,
)

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Outputs:
    """What was drawn of all cases: images, videos or sounds, in float32 on the CPU.

    ``data`` is ``N × …``, each as :class:`~..pipelines.outputs.Output` has it; ``latents`` are
    ``N × …`` or ``None``, and ``sample_rate_hz`` is that of sounds where it is known.  ``beside``
    is what else the pipeline gave for these cases, as the sound of videos, and ``left_out`` names
    what of that could not be read.
    """

    data: torch.Tensor
    latents: torch.Tensor | None
    sample_rate_hz: int | None = None
    left_out: tuple[str, ...] = ()
    beside: tuple[Outputs, ...] = ()

    @property
    def medium(self) -> str:
        """``"image"``, ``"video"`` or ``"audio"``."""
        return medium_of_batch(self.data)


def compare_outputs(
    baseline: Outputs,
    candidate: Outputs,
    device: torch.device | None = None,
    **how: Any,
) -> SimilarityReport:
    """The report on outputs of one medium, computed on ``device`` (``None``: where they are).

    ``how`` goes on to :func:`~..similarity.compare_images`, ``compare_videos`` or
    ``compare_audio``: prompts, a preset, limits.

    Raises:
        UsageError: a limit that this medium does not have.
        MeasurementError: the outputs cannot be compared at all.
    """
    if baseline.medium != candidate.medium:
        raise MeasurementError(
            f"the candidate gave {candidate.medium} where the baseline gave {baseline.medium}; "
            "only outputs of one kind can be compared"
        )
    first, second = (
        outputs.data if device is None else outputs.data.to(device)
        for outputs in (baseline, candidate)
    )
    try:
        if baseline.medium == AUDIO:
            return compare_audio(first, second, **how)
        if baseline.medium == VIDEO:
            return compare_videos(first, second, layout="NTCHW", **how)
        return compare_images(first, second, layout="NCHW", **how)
    except ImageInputError as error:
        raise MeasurementError(str(error)) from error
    except LimitError as error:
        raise UsageError(str(error)) from error


def findings_of(outputs: Outputs) -> tuple[Finding, ...]:
    """What is wrong with outputs as such, at most one finding each."""
    if outputs.medium == AUDIO:
        return audio_findings(outputs.data)
    if outputs.medium == VIDEO:
        return video_findings(read_videos(outputs.data, layout="NTCHW"))
    assert outputs.medium == IMAGE, "unreachable because there are three media"
    return findings(outputs.data)

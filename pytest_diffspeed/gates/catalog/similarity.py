"""``image_similarity``: the images of a stack against those of the fp32 baseline."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import MeasurementError, SelfComparisonError, UsageError, nearest
from ...common.workdir import safe_name
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...similarity.presets import LIMIT_NAMES, PRESETS
from ...techniques.stacks import Stack
from ..gate import Gate, GateContext
from ..image_limits_file import NAME as LIMITS_FILE
from ..image_limits_file import limits_for
from ..marker import GateMarker
from ..marker_values import BadValueError, as_device, as_number, as_one_of, as_optional_stack

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...arms.session import Session
    from ...similarity import SimilarityReport
    from ..baseline_images import BaselineImages, Images

CALIBRATED = "calibrated"
"""In the place of a preset: the limits that were measured and stored for this device and stack."""
RANDOM = (
    "image similarity on random weights would compare noise with noise; use a trained pipeline, "
    "such as the demo (--diffspeed-pipeline=demo)"
)


@dataclass(frozen=True)
class ImageSimilarity(GateMarker):
    """The images are those of the fp32 baseline, within a preset's limits."""

    signature: ClassVar[str] = (
        'image_similarity(preset="lossless", stack=None, device=None, **limits): images like '
        "the fp32 baseline's"
    )
    preset: str
    limits: tuple[tuple[str, float], ...]
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        preset: str = "lossless",
        stack: str | None = None,
        device: str | None = None,
        **limits: float,
    ) -> ImageSimilarity:
        for name in limits:
            if name not in LIMIT_NAMES:
                valid = ("preset", "stack", "device", *LIMIT_NAMES)
                raise BadValueError(name, f"is no argument of it; {nearest(name, valid)}")
        checked = tuple(
            (name, as_number(name, value, least=0.0, example="25"))
            for name, value in limits.items()
        )
        return cls(
            as_one_of("preset", preset, (*PRESETS, CALIBRATED)),
            checked,
            as_optional_stack(stack),
            as_device(device),
        )


class SimilarityGate(Gate):
    """Draws the candidate's images from the baseline's latents and compares them, worst first."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (ImageSimilarity,)

    def unfit(self, marker: GateMarker, source: str) -> str | None:
        return RANDOM if source.strip().startswith("random:") else None

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        assert isinstance(marker, ImageSimilarity)
        session, candidate = context.session, context.candidate
        unfit = self.unfit(marker, candidate.spec.source)
        if unfit is not None:
            raise UsageError(unfit)
        if candidate.spec.is_baseline:
            raise SelfComparisonError(f"it would compare {candidate.spec.stack} with itself")
        preset, limits = limits_of_marker(marker, session, candidate)
        from ...similarity import not_checked

        reference, drawn, errors = draw_both(session, candidate)
        report = compare(session, reference, drawn, errors, preset=preset, **limits)
        result = gate_result(marker, context, report, reference)
        try:
            result.figures["pictures"] = save_pictures(context, reference, drawn, report)
        except Exception as error:  # a picture must not cost a verdict
            result.figures["pictures_error"] = f"{type(error).__name__}: {error}"
        session.journal.write("gate", **result.as_dict())
        for sentence in not_checked(report.skipped):
            session.progress.line(f"image_similarity: {sentence}")
        return result


def limits_of_marker(
    marker: ImageSimilarity, session: Session, candidate: PreparedArm
) -> tuple[str | None, dict[str, float]]:
    """The preset and the limits beside it; calibrated ones come from the repository's file.

    Raises:
        UsageError: nothing that can be meant is calibrated for this device, source and stack.
    """
    from ...similarity.presets import LimitError, limits_of

    overrides = dict(marker.limits)
    if marker.preset != CALIBRATED:
        return marker.preset, overrides
    spec = candidate.spec
    options = [] if session.options.steps is None else [f"--steps={session.options.steps}"]
    options += [f"--prompt={prompt}" for prompt in session.options.prompts]
    known = limits_for(
        session.rootdir,
        session.device.name,
        spec.source,
        spec.stack.name,
        steps=candidate.call.defaults.steps,
        options=options,
    )
    try:
        return None, limits_of(None, {**known, **overrides})
    except LimitError as error:
        raise UsageError(f"{LIMITS_FILE}: {error}") from error


def draw_both(
    session: Session, candidate: PreparedArm
) -> tuple[BaselineImages, Images, tuple[float, ...]]:
    """The baseline's images, the candidate's, and the teacher-forced error of each denoiser call
    of the first image.

    Raises:
        MeasurementError: an arm raised, or a test's body changed it.
    """
    from ..baseline_images import draw, reference

    candidate.require_unchanged()
    session.arms.baseline(candidate.spec.source).require_unchanged()
    with session.shared_device():  # drawing beside somebody's timing would disturb it
        wanted = reference(session, candidate.spec.source)
        drawn = draw(session, candidate, wanted.cases)
        errors = _teacher_forced(session, candidate, wanted)
    return wanted, drawn, errors


def compare(
    session: Session,
    reference: BaselineImages,
    drawn: Images,
    errors: tuple[float, ...],
    *,
    preset: str | None,
    **limits: float,
) -> SimilarityReport:
    """Compare on the session's device.

    Raises:
        MeasurementError: the images cannot be compared at all.
    """
    from ...similarity import (
        ImageInputError,
        SkippedMetricWarning,
        compare_images,
        relative_l2,
    )

    device = session.device.torch_device
    given: dict[str, Any] = {"denoiser_l2": [sum(errors) / len(errors)]} if errors else {}
    theirs, own = reference.drawn.latents, drawn.latents
    if theirs is not None and own is not None and theirs.shape == own.shape:
        given["latent_l2"] = relative_l2(theirs, own).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedMetricWarning)  # the gate says it itself
        try:
            return compare_images(
                reference.drawn.images.to(device),
                drawn.images.to(device),
                preset=preset,
                prompts=reference.prompts,
                seeds=reference.seeds,
                layout="NCHW",
                given=given,
                floor=reference.floor.metrics,
                floor_rmse=reference.floor.rmse,
                **limits,
            )
        except ImageInputError as error:
            raise MeasurementError(str(error)) from error


def _teacher_forced(
    session: Session, candidate: PreparedArm, reference: BaselineImages
) -> tuple[float, ...]:
    from ...pipelines.components import denoiser
    from ...similarity import teacher_forced
    from ..baseline_images import draw

    baseline = session.arms.baseline(candidate.spec.source)
    parts = denoiser(baseline.pipeline), denoiser(candidate.pipeline)
    try:
        with teacher_forced(*parts, running=candidate.running) as errors:
            draw(session, baseline, reference.cases[:1])
    except MeasurementError as error:
        raise MeasurementError(
            f"while the denoisers were compared call by call: {error}"
        ) from error
    return tuple(errors)


def gate_result(
    marker: ImageSimilarity,
    context: GateContext,
    report: SimilarityReport,
    reference: BaselineImages,
) -> GateResult:
    verdict = VerdictKind(report.verdict)
    cases = [
        {"prompt": case.name, "seed": case.seed, "label": label}
        for case, label in zip(reference.cases, report.labels, strict=True)
    ]
    return GateResult(
        gate=marker.marker,
        claim=marker.claim,
        test=context.test,
        stack=context.candidate.spec.stack.name,
        verdict=verdict,
        reason=report.reason,
        evidence=Evidence.COUNTED,
        blocking=verdict is not VerdictKind.PASS,  # without a checked limit nothing was checked
        figures={
            "found": found_text(report, reference),
            "preset": marker.preset,
            "limits": report.limits,
            "metrics": {name: list(figures) for name, figures in report.metrics.items()},
            "images": {name: list(figures) for name, figures in report.images.items()},
            "cases": cases,
            "order": list(report.order),
            "misses": [
                {**vars(miss), "label": report.labels[miss.image]} for miss in report.misses
            ],
            "findings": [vars(finding) for finding in report.findings],
            "denominator_rmse": report.denominator,
            "skipped": report.skipped,
            "notes": list(report.notes),
            "floor": {name: list(figures) for name, figures in reference.floor.metrics.items()},
            "floor_again": reference.floor.again,
            "floor_kernels": reference.floor.kernels,
            "baseline_from_cache": reference.from_cache,
        },
    )


def found_text(report: SimilarityReport, reference: BaselineImages) -> str:
    """Every metric (mean, worst in brackets), the floor beside it, and what the reader must know:
    ``PSNR 34.1 (20.3) dB, SSIM 0.981 (0.940), …``.
    """
    from ...similarity import not_checked

    sentence = ", ".join(_metric_text(name, *pair) for name, pair in report.metrics.items())
    parts = [f"{len(reference.cases)} images: {sentence}" if sentence else report.reason]
    if report.denominator is not None:
        parts.append(f"other images differ by {report.denominator:.3f} RMSE")
    parts.append(f"floor: {reference.floor.again}; with other kernels {reference.floor.kernels}")
    parts += not_checked(report.skipped)
    parts += [note for note in report.notes if note not in report.skipped.values()]
    return "; ".join(parts)


_NAMES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "ssim_full": "at full size",
    "ms_ssim": "MS-SSIM",
    "mae": "MAE",
    "max_abs": "max",
    "other_image_ratio": "other-image ratio",
    "rank1": "rank-1",
    "latent_l2": "latents",
    "denoiser_l2": "denoiser",
}


def _metric_text(name: str, mean: float, worst: float) -> str:
    word = _NAMES.get(name, name)
    if name == "psnr":
        return f"{word} {mean:.1f} ({worst:.1f}) dB"
    if name == "rank1":
        return f"{word} {mean:.0%}"
    if name == "denoiser_l2":  # one figure for all images
        return f"{word} {mean:.3g}"
    if name in ("ssim", "ssim_full", "ms_ssim"):
        return f"{word} {mean:.4f} ({worst:.4f})"
    return f"{word} {mean:.3g} ({worst:.3g})"


def save_pictures(
    context: GateContext,
    reference: BaselineImages,
    drawn: Images,
    report: SimilarityReport,
    *,
    beside: str = "",
) -> list[str]:
    """A PNG per image, worst first; paths from the rootdir.

    ``beside`` tells a test's second set of pictures from its first.
    """
    from ..pictures import Picture, save_gallery

    session = context.session
    first, second = (
        images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        for images in (reference.drawn.images, drawn.images)
    )
    pictures = []
    for index in report.order:
        case = reference.cases[index]
        slug = re.sub(r"\s+", "-", case.name)[:40]
        name = safe_name(f"{slug}-seed{case.seed}")
        pictures.append(Picture(name, first[index], second[index]))
    folder = session.workdir() / "images" / safe_name(f"{context.test} {beside}".strip())
    paths = save_gallery(folder, pictures)
    return [path.relative_to(session.rootdir).as_posix() for path in paths]


GATES = (SimilarityGate(),)

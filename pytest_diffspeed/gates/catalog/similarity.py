"""``image_similarity``: the images of a stack against those of the fp32 baseline."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ...common.errors import MeasurementError, SelfComparisonError, UsageError, nearest
from ...common.text import plural
from ...common.workdir import safe_name
from ...records.verdict import (
    HIGHER,
    LOWER,
    SIMILARITY,
    Axis,
    Cause,
    EvidenceKind,
    GateResult,
    Metric,
    VerdictKind,
)
from ...similarity.presets import (
    FEWER_STEPS,
    HIGHER_IS_BETTER,
    IN_DECIBELS,
    LIMIT_NAMES,
    PRESETS,
    LimitError,
    require_limit,
)
from ...techniques.stacks import FP32, Stack
from .. import several_media
from ..against_base.differing import differing
from ..against_base.images import drawn_by
from ..gate import ArmsOfBoth, BaseClaim, Gate, GateContext
from ..image_cause import CHANGED_SINCE_BASE, OTHER_CALL_IN_BASE, image_cause
from ..image_limits_file import NAME as LIMITS_FILE
from ..image_limits_file import limits_for
from ..marker import GateMarker
from ..marker_values import BadValueError, as_device, as_number, as_one_of, as_optional_stack
from ..several_media import ComparedMedium

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...arms.session import Session
    from ...similarity import SimilarityReport
    from ..baseline_images import BaselineImages
    from ..compare_outputs import Outputs
    from ..denoiser_errors import DenoiserErrors

BY_STACK = "by_stack"
"""In the place of a preset: ``lossless``, ``fewer_steps`` for a stack that changes the schedule,
whose pictures may be others, or what a technique of the stack asks for; of several the loosest."""
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
        'image_similarity(preset="by_stack", stack=None, device=None, **limits): images like '
        "the fp32 baseline's"
    )
    axis: ClassVar[Axis] = Axis.IMAGES
    preset: str
    limits: tuple[tuple[str, float], ...]
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        preset: str = BY_STACK,
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
            as_one_of("preset", preset, (*PRESETS, BY_STACK, CALIBRATED)),
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
        named = preset_for(marker, candidate.spec.stack)
        preset, limits = limits_of_marker(marker, named, session, candidate)
        from ...similarity import not_checked

        reference, drawn, errors = draw_both(session, candidate)
        compared = compare_all(session, reference, drawn, errors, preset=preset, **limits)
        compared = _noting(session, candidate, compared)
        result = gate_result(marker, named, context, compared)
        try:
            result.figures["pictures"] = save_pictures(context, compared[0])
        except Exception as error:  # a picture must not cost a verdict
            result.figures["pictures_error"] = f"{type(error).__name__}: {error}"
        context.publish(result)
        for one in compared:
            for sentence in not_checked(one.report.skipped):
                session.progress.line(f"image_similarity: {sentence}")
        return result

    def base_claims(self, markers: Sequence[GateMarker]) -> Sequence[BaseClaim]:
        return [BaseClaim(marker, f"{marker.claim} against base") for marker in markers]

    def check_against_base(
        self, claim: BaseClaim, context: GateContext, of_both: ArmsOfBoth
    ) -> GateResult:
        """Draw the same cases with both and compare, within the marker's limits."""
        from ..baseline_images import reference

        session, candidate, marker = context.session, context.candidate, claim.marker
        assert isinstance(marker, ImageSimilarity)
        base, head = of_both(candidate)
        candidate.require_unchanged()
        named = preset_for(marker, candidate.spec.stack, same_schedule=True)
        preset, limits = limits_of_marker(marker, named, session, candidate)
        with session.shared_device():  # drawing beside somebody's timing would disturb it
            own = reference(session, candidate.spec.source, candidate.spec.stack)
            drawn = drawn_by(head, own.drawn, own.cases)
            base_drew = drawn_by(base, own.drawn, own.cases)
            beside = zip(own.beside, base_drew.beside, strict=True)
            theirs = replace(
                own,
                drawn=base_drew,
                beside=tuple(replace(one, drawn=drew) for one, drew in beside),
            )
        compared = compare_all(session, theirs, drawn, None, preset=preset, **limits)
        against = session.base
        assert against is not None
        result, notes = gate_result(marker, named, context, compared), differing(base, head)
        reason = "; ".join([f"against {against.name}: {result.reason}", *notes])
        step = OTHER_CALL_IN_BASE if notes else CHANGED_SINCE_BASE
        result = replace(
            result,
            claim=claim.claim,
            reason=reason,
            figures={
                **result.figures,
                "against_base": against.about(),
                "differing": list(notes),
            },
            cause=None if result.cause is None else replace(result.cause, next_step=step),
        )
        try:
            result.figures["pictures"] = save_pictures(context, compared[0], beside="against base")
        except Exception as error:  # a picture must not cost a verdict
            result.figures["pictures_error"] = f"{type(error).__name__}: {error}"
        return result


def preset_for(marker: ImageSimilarity, stack: Stack, *, same_schedule: bool = False) -> str:
    """The word that the marker means for ``stack``; ``same_schedule``: against the same stack."""
    if marker.preset != BY_STACK:
        return marker.preset
    if same_schedule:
        return "lossless"
    meant = {"lossless", *stack.image_presets}
    if stack.changes_schedule:
        meant.add(FEWER_STEPS)
    return [preset for preset in PRESETS if preset in meant][-1]  # the loosest of them


def limits_of_marker(
    marker: ImageSimilarity, named: str, session: Session, candidate: PreparedArm
) -> tuple[str | None, dict[str, float]]:
    """The preset and the limits beside it; calibrated ones come from the repository's file.

    Raises:
        UsageError: nothing that can be meant is calibrated for this device, source and stack.
    """
    overrides = dict(marker.limits)
    if named != CALIBRATED:
        return named, overrides
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
        for name in known:
            require_limit(name)
    except LimitError as error:
        raise UsageError(f"{LIMITS_FILE}: {error}") from error
    return None, {**known, **overrides}


def draw_both(
    session: Session, candidate: PreparedArm
) -> tuple[BaselineImages, Outputs, DenoiserErrors]:
    """The baseline's outputs, the candidate's, and the teacher-forced error of each denoiser call
    of the first case.

    Raises:
        MeasurementError: an arm raised, or a test's body changed it.
    """
    from ..baseline_images import baseline_of, draw, reference
    from ..denoiser_errors import denoiser_errors

    candidate.require_unchanged()
    baseline_of(session, candidate).require_unchanged()
    with session.shared_device():  # drawing beside somebody's timing would disturb it
        wanted = reference(session, candidate.spec.source, candidate.spec.stack)
        drawn = draw(session, candidate, wanted.cases)
        errors = denoiser_errors(session, candidate, wanted)
    return wanted, drawn, errors


def compare_all(
    session: Session,
    reference: BaselineImages,
    drawn: Outputs,
    errors: DenoiserErrors | None,
    *,
    preset: str | None,
    **limits: float,
) -> tuple[ComparedMedium, ...]:
    """Each medium that the calls gave, the first with the distances inside the pipeline.

    Raises:
        UsageError: a limit that none of them has.
        MeasurementError: the outputs cannot be compared at all.
    """
    if len(reference.beside) != len(drawn.beside):
        raise MeasurementError(
            f"the candidate's calls gave {1 + len(drawn.beside)} media and the baseline's "
            f"{1 + len(reference.beside)}; only outputs of the same kinds can be compared"
        )
    pairs = [(reference, drawn), *zip(reference.beside, drawn.beside, strict=True)]
    media = tuple(one.drawn.medium for one, _ in pairs)
    compared = []
    for one, own in pairs:
        report = compare(
            session,
            one,
            own,
            errors if one is reference else None,
            preset=preset,
            **several_media.limits_for(one.drawn.medium, media, limits),
        )
        compared.append(ComparedMedium(one, own, report))
    return tuple(compared)


def compare(
    session: Session,
    reference: BaselineImages,
    drawn: Outputs,
    errors: DenoiserErrors | None,
    *,
    preset: str | None,
    **limits: float,
) -> SimilarityReport:
    """Compare on the session's device.

    Raises:
        UsageError: a limit that outputs of this kind do not have.
        MeasurementError: the outputs cannot be compared at all.
    """
    from ...similarity import SkippedMetricWarning, relative_l2
    from ..compare_outputs import compare_outputs

    device = session.device.torch_device
    each = errors.errors if errors else ()
    given: dict[str, Any] = {"denoiser_l2": [sum(each) / len(each)]} if each else {}
    theirs, own = reference.drawn.latents, drawn.latents
    if theirs is not None and own is not None and theirs.shape == own.shape:
        given["latent_l2"] = relative_l2(theirs, own).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkippedMetricWarning)  # the gate says it itself
        report = compare_outputs(
            reference.drawn,
            drawn,
            device,
            preset=preset,
            prompts=reference.prompts,
            seeds=reference.seeds,
            given=given,
            floor=reference.floor.metrics,
            floor_rmse=reference.floor.rmse,
            **limits,
        )
    return replace(report, notes=(*report.notes, *errors.notes)) if errors else report


def _noting(
    session: Session, candidate: PreparedArm, compared: tuple[ComparedMedium, ...]
) -> tuple[ComparedMedium, ...]:
    """With what the reader of a PASS must know of a stack that changes the schedule, or of a
    baseline with an adapter.
    """
    from ..baseline_images import baseline_of

    notes = []
    baseline = baseline_of(session, candidate)
    if candidate.spec.stack.changes_schedule:
        now, was = candidate.steps_of_call(), baseline.steps_of_call()
        steps = plural(now, "step") + (
            f" instead of {was}" if now != was else ", as many as before"
        )
        notes.append(f"drawn by another schedule ({steps}), so pictures may differ")
    if baseline.spec.stack != FP32:
        notes.append(f"the baseline is {baseline.spec.stack}, in fp32")
    if not notes:
        return compared
    first, *others = compared
    report = replace(first.report, notes=(*notes, *first.report.notes))
    return (replace(first, report=report), *others)


def gate_result(
    marker: ImageSimilarity,
    named: str,
    context: GateContext,
    compared: tuple[ComparedMedium, ...],
) -> GateResult:
    report, reference = compared[0].report, compared[0].reference
    verdict = several_media.worst_verdict(compared)
    cases = [
        {"prompt": case.name, "seed": case.seed, "label": label}
        for case, label in zip(reference.cases, report.labels, strict=True)
    ]
    return context.result(
        marker,
        verdict,
        reason=several_media.reason_of(compared),
        evidence=EvidenceKind.COUNTED,
        blocking=verdict is not VerdictKind.PASS,  # without a checked limit nothing was checked
        figures={
            "found": several_media.found_of(compared),
            "preset": named,
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
            "output": report.medium,
            "worst_frames": list(report.worst_frame),
            "sample_rate_hz": reference.drawn.sample_rate_hz,
            "not_compared": list(reference.drawn.left_out),
            "beside": [several_media.record_of(one) for one in compared[1:]],
        },
        metrics=[
            metric
            for at, one in enumerate(compared)
            for name, pair in one.report.metrics.items()
            for metric in _metrics(name, *pair, medium=one.report.medium if at else "")
        ],
        cause=_cause(named, compared, verdict),
    )


def _cause(preset: str, compared: tuple[ComparedMedium, ...], verdict: VerdictKind) -> Cause | None:
    """Of the first medium that decided."""
    if verdict is VerdictKind.PASS:
        return None
    deciding = next(one for one in compared if one.report.verdict == verdict.value)
    return image_cause(deciding.report, deciding.drawn, preset)


def _metrics(name: str, mean: float, worst: float, medium: str) -> Iterator[Metric]:
    """``medium`` is that of what stands beside the output."""
    for part, value in (("mean", mean), ("worst", worst)):
        yield Metric(
            f"{medium}_{name}_{part}" if medium else f"{name}_{part}",
            value,
            "dB" if name in (*IN_DECIBELS, "log_spectral_distance") else name,
            HIGHER if HIGHER_IS_BETTER[name] else LOWER,
            SIMILARITY,
            # The same kernels give the same picture, and others move it: noise, if seldom.
            is_counted=False,
            series=f"{medium} {name} {part}".strip(),
        )


def save_pictures(context: GateContext, compared: ComparedMedium, *, beside: str = "") -> list[str]:
    """A PNG per output, worst first; paths from the rootdir.

    ``beside`` tells a test's second set of pictures from its first.
    """
    from ..pictures import Picture, save_gallery

    session = context.session
    reference, drawn, report = compared.reference, compared.drawn, compared.report
    first, second = reference.drawn.data.numpy(), drawn.data.numpy()
    pictures = []
    for index in report.order:
        case = reference.cases[index]
        slug = re.sub(r"\s+", "-", case.name)[:40]
        pictures.append(
            Picture(
                safe_name(f"{slug}-seed{case.seed}"),
                first[index],
                second[index],
                worst_frame=report.worst_frame[index] if report.worst_frame else 0,
                sample_rate_hz=reference.drawn.sample_rate_hz,
            )
        )
    folder = session.workdir() / "images" / safe_name(f"{context.test} {beside}".strip())
    paths = save_gallery(folder, pictures)
    return [path.relative_to(session.rootdir).as_posix() for path in paths]


GATES = (SimilarityGate(),)

"""A candidate's images against its baseline's: sanity, metrics, limits, verdict."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .extras import EXTRAS, ExtraUnavailableError, extra
from .filters import WINDOW, comparison_shape, comparison_size
from .inputs import ImageBatch, ImageInputError, read_images, shape_text, to_float
from .metrics import pixel_errors, ssim, ssim_and_ms_ssim
from .presets import (
    HIGHER_IS_BETTER,
    HIGHEST_PSNR,
    KINDS,
    METRICS,
    LimitError,
    Miss,
    limits_of,
    met,
    metric_of,
)
from .ranking import Ranking, rank_small
from .sanity import Finding, findings

GIVEN = ("latent_l2", "denoiser_l2")
"""Metrics that are not of images: the caller measures them and hands them in."""
CPU_PIXELS, ACCELERATOR_PIXELS = 2**20, 2**23
"""As many are in floating point at a time: 64 images of 1024 × 1024 would take 1.5 GiB."""


class SkippedMetricWarning(UserWarning):
    """A metric with a limit could not be computed, so the limit was not checked."""


@dataclass(frozen=True)
class SimilarityReport:
    """What the images showed.

    ``verdict`` is ``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"`` (no limit was asked for or could be
    checked).  ``metrics`` has the mean and the worst of each metric (PSNR of at most 100 dB each),
    ``images`` its figure for each image (NaN where the image is broken), ``worst`` the index of its
    worst image.  ``order`` has the images from the worst to the best.  ``denominator`` is that of
    the other-image ratio, in RMSE.  ``skipped`` are limits that could not be checked, by name, with
    the reason.  ``notes`` are sentences for the reader: what was not used, and limits that the
    baseline itself misses.
    """

    verdict: str
    reason: str
    metrics: dict[str, tuple[float, float]]
    images: dict[str, tuple[float, ...]]
    worst: dict[str, int]
    order: tuple[int, ...]
    limits: dict[str, float]
    misses: tuple[Miss, ...]
    findings: tuple[Finding, ...]
    labels: tuple[str, ...]
    denominator: float | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def found(self, limit: str) -> float:
        """The figure that a limit such as ``"psnr_worst"`` is about."""
        return self.metrics[metric_of(limit)][limit.endswith("_worst")]


def compare_images(
    baseline: object,
    candidate: object,
    *,
    preset: str | None = None,
    prompts: Sequence[Hashable] | None = None,
    seeds: Sequence[int] | None = None,
    layout: str | None = None,
    given: Mapping[str, Sequence[float]] | None = None,
    floor: Mapping[str, tuple[float, float]] | None = None,
    floor_rmse: float = 0.0,
    **limits: float,
) -> SimilarityReport:
    """Are these the baseline's images, within limits?

    Args:
        baseline, candidate: images in the same order; see :func:`~.inputs.as_images` for the forms
            that are read.  They are compared on the baseline's device.
        preset: ``exact``, ``lossless``, ``int8``, ``w8a8``, ``int4`` or ``cache``.
        prompts, seeds: what each image was drawn from.  Without prompts each image counts as
            another one.
        layout: ``"NHWC"`` or ``"NCHW"``, where the shape does not tell.
        given: ``latent_l2`` and ``denoiser_l2``, a figure for each image (or one for all).
        floor: what the baseline reaches against itself, as in ``SimilarityReport.metrics``.
        floor_rmse: the same in RMSE; see :func:`~.ranking.rank`.
        **limits: such as ``psnr_worst=20``, in place of the preset's or beside them.

    Raises:
        ImageInputError: something is no image, or the baseline's own images are broken.
        LimitError: an unknown preset or limit.
    """
    wanted = limits_of(preset, limits)
    x = read_images(baseline, "the baseline's images", layout)
    y = read_images(candidate, "the candidate's images", layout)
    labels = _labels(len(x), prompts, seeds)
    for finding in findings(x):
        raise ImageInputError(
            f"the baseline's {labels[finding.image]} {finding.problem}, so nothing can be compared "
            "with it; choose other prompts, or fix the baseline"
        )
    if x.shape != y.shape:
        return _unlike(x, y, wanted, labels)
    found = findings(y)
    notes: list[str] = []
    broken = {finding.image for finding in found}
    sane = [index for index in range(len(x)) if index not in broken]
    computed: dict[str, list[float]] = {}
    absent: dict[str, str] = {}
    denominator = None
    if sane:
        keys: Sequence[Hashable] = range(len(x)) if prompts is None else prompts
        computed, ranking = _compute(x, y, sane, [keys[i] for i in sane], floor_rmse)
        denominator = ranking.denominator
        absent = _absent(x.shape, ranking)
        notes += dict.fromkeys(absent.values())
    skipped: dict[str, str] = {}
    _add_extras(computed, skipped, notes, wanted, x, y, sane)
    images = {name: _spread(values, sane, len(x)) for name, values in computed.items()}
    images |= _given(given or {}, len(x))
    images = {name: images[name] for name in METRICS if name in images}
    for limit in wanted:
        if sane and metric_of(limit) not in images and limit not in skipped:
            skipped[limit] = _why_absent(metric_of(limit), absent)
    worst = {name: _worst_image(name, values) for name, values in images.items()}
    metrics = {name: _mean_and_worst(name, values, worst[name]) for name, values in images.items()}
    misses = _misses(wanted, metrics, worst)
    notes += _limits_under_floor(wanted, floor or {})
    if skipped:
        warnings.warn("; ".join(not_checked(skipped)), SkippedMetricWarning, stacklevel=2)
    checked = [name for name in wanted if name not in skipped]
    return SimilarityReport(
        verdict=_verdict(found, misses, checked),
        reason=_reason(found, misses, labels, worst, checked, skipped, len(x)),
        metrics=metrics,
        images=images,
        worst=worst,
        order=_order(images, broken, len(x)),
        limits=wanted,
        misses=misses,
        findings=found,
        labels=labels,
        denominator=denominator,
        skipped=skipped,
        notes=tuple(notes),
    )


def _compute(
    x: ImageBatch,
    y: ImageBatch,
    sane: Sequence[int],
    prompts: Sequence[Hashable],
    floor_rmse: float,
) -> tuple[dict[str, list[float]], Ranking]:
    """The metrics of the images ``sane``, a few at a time, in the same memory again and again."""
    pixels = x.shape[-1] * x.shape[-2]
    limit = CPU_PIXELS if x.device.type == "cpu" else ACCELERATOR_PIXELS
    at_a_time = min(len(sane), max(1, limit // pixels))
    rooms = x.room(at_a_time), y.room(at_a_time, x.device)
    small = [
        torch.empty((len(sane), *comparison_shape(x.shape)[1:]), dtype=room.dtype, device=x.device)
        for room in rooms
    ]
    values: dict[str, list[float]] = {}
    with torch.no_grad():
        for start in range(0, len(sane), at_a_time):
            some = sane[start : start + at_a_time]
            pair = x.read(some, rooms[0]), y.read(some, rooms[1])
            shrunk = comparison_size(pair[0]), comparison_size(pair[1])
            for images, part in zip(small, shrunk, strict=True):
                images[start : start + len(some)] = part
            for name, figures in _pixel_metrics(pair, shrunk).items():
                values.setdefault(name, []).extend(figures.tolist())
        ranking = rank_small(small[0], small[1], prompts, floor_rmse)
    for name, ranks in (
        ("other_image_ratio", ranking.other_image_ratio),
        ("rank1", ranking.rank1),
    ):
        if ranks is not None:
            values[name] = ranks.tolist()
    return values, ranking


def _pixel_metrics(
    pair: tuple[torch.Tensor, torch.Tensor], small: tuple[torch.Tensor, torch.Tensor]
) -> dict[str, torch.Tensor]:
    errors = pixel_errors(*pair)
    found = {"psnr": errors.psnr, "mae": errors.mae, "max_abs": errors.max_abs}
    if min(pair[0].shape[-2:]) >= WINDOW:
        full, multi_scale = ssim_and_ms_ssim(*pair)
        found["ssim"] = full if small[0].shape == pair[0].shape else ssim(*small)
        found |= {"ssim_full": full, "ms_ssim": multi_scale}
    return found


def _add_extras(
    computed: dict[str, list[float]],
    skipped: dict[str, str],
    notes: list[str],
    wanted: Mapping[str, float],
    x: ImageBatch,
    y: ImageBatch,
    sane: Sequence[int],
) -> None:
    """Those that a limit asks for; where one is absent, its limits are skipped and said."""
    for name in EXTRAS:
        asked = [limit for limit in wanted if metric_of(limit) == name]
        if not asked or not sane:
            continue
        pairs = ((to_float(x.images[i]), to_float(y.images[i]).to(x.device)) for i in sane)
        try:
            computed[name] = extra(name, pairs)
        except ExtraUnavailableError as error:
            skipped.update(dict.fromkeys(asked, str(error)))
            notes.append(str(error))


def _given(given: Mapping[str, Sequence[float]], number: int) -> dict[str, tuple[float, ...]]:
    values: dict[str, tuple[float, ...]] = {}
    for name, figures in given.items():
        if name not in GIVEN:
            raise LimitError(f"only {' and '.join(GIVEN)} can be given, not {name!r}")
        if len(figures) not in (1, number):
            raise ImageInputError(f"{name} has {len(figures)} figures for {number} images")
        values[name] = tuple(float(figure) for figure in figures)
    return values


def _absent(shape: Sequence[int], ranking: Ranking) -> dict[str, str]:
    """Metrics that these images do not have, each with the reason."""
    absent: dict[str, str] = {}
    height, width = shape[-2:]
    if min(height, width) < WINDOW:
        why = (
            f"SSIM and MS-SSIM are left out: their window has {WINDOW} pixels a side, and the "
            f"images are {height} × {width}"
        )
        absent |= dict.fromkeys(("ssim", "ssim_full", "ms_ssim"), why)
    if ranking.unused is not None:
        absent |= dict.fromkeys(("other_image_ratio", "rank1"), ranking.unused)
    return absent


def _why_absent(metric: str, absent: Mapping[str, str]) -> str:
    if metric in GIVEN:
        return f"nobody measured {metric}; it is given with `given={{{metric!r}: […]}}`"
    return absent[metric]


def _labels(
    number: int, prompts: Sequence[Hashable] | None, seeds: Sequence[int] | None
) -> tuple[str, ...]:
    for name, values in (("prompts", prompts), ("seeds", seeds)):
        if values is not None and len(values) != number:
            raise ImageInputError(
                f"there are {len(values)} {name} for {number} images; give one for each image"
            )
    labels = []
    for index in range(number):
        message = [] if prompts is None else [f"prompt {prompts[index]!r}"]
        message += [] if seeds is None else [f"seed {seeds[index]}"]
        labels.append(f"image {index + 1}" + (f" ({', '.join(message)})" if message else ""))
    return tuple(labels)


def _unlike(
    x: ImageBatch, y: ImageBatch, limits: dict[str, float], labels: tuple[str, ...]
) -> SimilarityReport:
    return SimilarityReport(
        verdict="FAIL",
        reason=(
            f"the candidate's images have the shape {shape_text(y.shape)} (N × C × H × W), the "
            f"baseline's {shape_text(x.shape)}"
        ),
        metrics={},
        images={},
        worst={},
        order=tuple(range(len(labels))),
        limits=limits,
        misses=(),
        findings=(),
        labels=labels,
    )


def _spread(values: Sequence[float], sane: Sequence[int], number: int) -> tuple[float, ...]:
    """A figure for each image; NaN for the broken ones, of which a metric would say something."""
    figures = [math.nan] * number
    for index, value in zip(sane, values, strict=True):
        figures[index] = value
    return tuple(figures)


def _worst_image(metric: str, values: Sequence[float]) -> int:
    for index, value in enumerate(values):
        if math.isnan(value):
            return index
    pick = min if HIGHER_IS_BETTER[metric] else max
    return pick(range(len(values)), key=values.__getitem__)


def _mean_and_worst(metric: str, values: Sequence[float], worst: int) -> tuple[float, float]:
    if metric == "psnr":
        values = [value if math.isnan(value) else min(value, HIGHEST_PSNR) for value in values]
    return sum(values) / len(values), values[worst]


def _misses(
    wanted: Mapping[str, float],
    metrics: Mapping[str, tuple[float, float]],
    worst: Mapping[str, int],
) -> tuple[Miss, ...]:
    misses = []
    for limit, bound in wanted.items():
        metric = metric_of(limit)
        if metric not in metrics:
            continue
        figure = metrics[metric][KINDS.index(limit.rpartition("_")[2])]
        if not met(limit, figure, bound):
            misses.append(Miss(limit, figure, bound, worst[metric]))
    return tuple(misses)


def _limits_under_floor(
    wanted: Mapping[str, float], floor: Mapping[str, tuple[float, float]]
) -> list[str]:
    notes = []
    for limit, bound in wanted.items():
        if metric_of(limit) not in floor:
            continue
        reached = floor[metric_of(limit)][KINDS.index(limit.rpartition("_")[2])]
        if not met(limit, reached, bound):
            notes.append(
                f"the limit {limit} {bound:.4g} is under the floor: the baseline against itself "
                f"with other kernels reaches {reached:.4g}, so no candidate can be held to it"
            )
    return notes


def _verdict(found: Sequence[Finding], misses: Sequence[Miss], checked: Sequence[str]) -> str:
    if found or misses:
        return "FAIL"
    return "PASS" if checked else "INCONCLUSIVE"


def _reason(
    found: Sequence[Finding],
    misses: Sequence[Miss],
    labels: Sequence[str],
    worst: Mapping[str, int],
    checked: Sequence[str],
    skipped: Mapping[str, str],
    number: int,
) -> str:
    unchecked = "".join(f"; {sentence}" for sentence in not_checked(skipped))
    if found:
        first = found[0]
        others = f", and {len(found) - 1} more are broken" if len(found) > 1 else ""
        return f"{labels[first.image]} {first.problem}{others}"
    if misses:
        sentence = f"{misses[0]} (worst: {labels[misses[0].image]})"
        if len(misses) > 1:
            sentence += f"; also {', '.join(str(miss) for miss in misses[1:])}"
        return sentence + unchecked
    if not checked:
        return "no limit was checked; name a preset, or limits such as psnr_worst=20" + unchecked
    leading = next((metric for metric in ("ssim", "psnr") if metric in worst), None)
    where = labels[worst[leading]] if leading else "?"
    return f"{number} images within {len(checked)} limits; worst: {where}{unchecked}"


def not_checked(skipped: Mapping[str, str]) -> list[str]:
    """``NOT CHECKED: rank1_mean, rank1_worst, since …``: one sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for limit, why in skipped.items():
        by_reason.setdefault(why, []).append(limit)
    return [f"NOT CHECKED: {', '.join(limits)}, since {why}" for why, limits in by_reason.items()]


def _order(images: Mapping[str, Sequence[float]], broken: set[int], number: int) -> tuple[int, ...]:
    """Broken images first, then by down-sampled SSIM where there is one, then by PSNR."""

    def badness(index: int) -> tuple[bool, Any, Any]:
        if index in broken or "psnr" not in images:
            return (index not in broken, 0.0, 0.0)
        leading = images["ssim"][index] if "ssim" in images else 0.0
        return (True, leading, images["psnr"][index])

    return tuple(sorted(range(number), key=badness))

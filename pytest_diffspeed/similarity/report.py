"""From figures to a verdict: the same for images, video and audio."""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .inputs import ImageInputError, ImageTypeError, is_list, shape_text
from .presets import (
    HIGHER_IS_BETTER,
    HIGHEST_DB,
    IMAGE,
    IN_DECIBELS,
    KINDS,
    METRICS,
    UNCALIBRATED,
    VIDEO,
    LimitError,
    Miss,
    met,
    metric_of,
)
from .ranking import Ranking
from .sanity import RANGE, Finding
from .wording import figure_text

GIVEN = ("latent_l2", "denoiser_l2")
"""Metrics that are not of outputs: the caller measures them and hands them in."""
NOUNS: Mapping[str, str] = {"image": "image", "video": "video", "audio": "sound"}
"""What one output of a medium is called."""
_AXES: Mapping[str, str] = {
    "image": "N × C × H × W",
    "video": "N × T × C × H × W",
    "audio": "N × channels × samples",
}
_LEADING = ("ssim", "psnr", "snr")
"""The metrics by which outputs are put in order, as far as there are any."""


class SkippedMetricWarning(UserWarning):
    """A metric with a limit could not be computed, so the limit was not checked."""


@dataclass(frozen=True)
class SimilarityReport:
    """What the outputs showed.

    ``verdict`` is ``"PASS"``, ``"FAIL"`` or ``"INCONCLUSIVE"`` (no limit was asked for or could be
    checked).  ``metrics`` has the mean and the worst of each metric (PSNR and SNR of at most 100 dB
    each), ``images`` its figure for each output (NaN where the output is broken), ``worst`` the
    index of its worst output.  ``order`` has the outputs from the worst to the best.
    ``denominator`` is that of the other-image ratio, in RMSE.  ``skipped`` are limits that could
    not be checked, by name, with the reason.  ``notes`` are sentences for the reader: what was not
    used, and limits that the baseline itself misses.

    ``medium`` is ``"image"``, ``"video"`` or ``"audio"``.  Of videos, ``metrics`` has the mean over
    all frames and the worst frame, ``images`` the worst frame's figure, ``frames`` the figure of
    each frame (of flicker: of each two that follow each other), and ``worst_frame`` the index of
    the frame of each video that is worst by the metric which ``order`` goes by.
    """

    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]
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
    medium: str = IMAGE
    frames: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    worst_frame: tuple[int, ...] = ()

    def found(self, limit: str) -> float:
        """The figure that a limit such as ``"psnr_worst"`` is about."""
        return self.metrics[metric_of(limit)][limit.endswith("_worst")]

    def __repr__(self) -> str:
        return f"<SimilarityReport {self.verdict}: {self.reason}>"

    def __str__(self) -> str:
        """The verdict with its reason, every metric, and what else must be said."""
        lines = [f"{self.verdict}: {self.reason}"]
        if self.metrics:
            many = f"{len(self.labels)} {NOUNS[self.medium]}{'' if len(self.labels) == 1 else 's'}"
            figures = (figure_text(n, self.medium, *pair) for n, pair in self.metrics.items())
            lines.append(f"  {many}, mean (worst): {', '.join(figures)}")
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


@dataclass(frozen=True)
class Figures:
    """What was computed of the outputs that are not broken.

    ``values`` are, by metric, the figures of each sane output: one of an image, one for each frame
    of a video.  ``absent`` are metrics that these outputs do not have, with the reason, ``skipped``
    limits that could not be checked, ``notes`` what else must be said.
    """

    values: dict[str, list[list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    denominator: float | None = None

    def add_ranking(self, ranking: Ranking) -> Figures:
        """With ranks and ratios, or with the reason why there are none."""
        ranks = {"other_image_ratio": ranking.other_image_ratio, "rank1": ranking.rank1}
        for name, of_each in ranks.items():
            if of_each is not None:
                self.values[name] = [[figure] for figure in of_each.tolist()]
            elif ranking.unused is not None:
                self.absent[name] = ranking.unused
        return Figures(self.values, self.absent, self.skipped, self.notes, ranking.denominator)


def conclude(
    medium: str,
    figures: Figures,
    *,
    labels: tuple[str, ...],
    limits: dict[str, float],
    preset: str | None,
    found: tuple[Finding, ...],
    given: Mapping[str, Sequence[float]] | None,
    floor: Mapping[str, tuple[float, float]] | None,
) -> SimilarityReport:
    """The report; the outputs whose index is in no finding are those that ``figures`` are of.

    Warns:
        SkippedMetricWarning: a limit could not be checked.

    Raises:
        LimitError: something else than :data:`GIVEN` was handed in.
        ImageInputError: it has another number of figures than there are outputs.
    """
    number = len(labels)
    broken = {finding.image for finding in found}
    sane = [index for index in range(number) if index not in broken]
    frames = {name: _spread(values, sane, number) for name, values in figures.values.items()}
    frames |= _given(given or {}, number, NOUNS[medium])
    frames = {name: frames[name] for name in METRICS if name in frames}
    images = {name: tuple(_worst(name, one) for one in all_) for name, all_ in frames.items()}
    skipped = dict(figures.skipped)
    for limit in limits:
        if sane and metric_of(limit) not in images and limit not in skipped:
            skipped[limit] = _why_absent(metric_of(limit), figures.absent)
    worst = {name: _worst_index(name, values) for name, values in images.items()}
    metrics = {
        name: (_mean(name, frames[name]), _capped(name, images[name][worst[name]]))
        for name in images
    }
    misses = _misses(limits, metrics, frames, worst)
    notes = [*dict.fromkeys(figures.absent.values()), *figures.notes]
    notes += [UNCALIBRATED[medium]] if preset is not None and medium in UNCALIBRATED else []
    notes += _limits_under_floor(limits, floor or {})
    if skipped:
        warnings.warn("; ".join(not_checked(skipped)), SkippedMetricWarning, stacklevel=3)
    checked = [name for name in limits if name not in skipped]
    order = _order(images, broken, number)
    worst_frame = tuple(_worst_frame(i, frames, found) for i in range(number))
    return SimilarityReport(
        verdict=_verdict(found, misses, checked),
        reason=_reason(medium, found, misses, labels, order, worst_frame, checked, skipped),
        metrics=metrics,
        images=images,
        worst=worst,
        order=order,
        limits=limits,
        misses=misses,
        findings=found,
        labels=labels,
        denominator=figures.denominator,
        skipped=skipped,
        notes=tuple(notes),
        medium=medium,
        frames=frames if medium == VIDEO else {},
        worst_frame=worst_frame if medium == VIDEO else (),
    )


def unlike(
    medium: str,
    baseline: Sequence[int],
    candidate: Sequence[int],
    limits: dict[str, float],
    labels: tuple[str, ...],
) -> SimilarityReport:
    """FAIL: outputs of another shape (that of all of them together) than the baseline's."""
    noun = NOUNS[medium]
    return SimilarityReport(
        verdict="FAIL",
        reason=(
            f"the candidate's {noun}s have the shape {shape_text(candidate)} ({_AXES[medium]}), "
            f"the baseline's {shape_text(baseline)}"
        ),
        metrics={},
        images={},
        worst={},
        order=tuple(range(len(labels))),
        limits=limits,
        misses=(),
        findings=(),
        labels=labels,
        medium=medium,
        worst_frame=(0,) * len(labels) if medium == VIDEO else (),
    )


def labels_of(
    medium: str,
    number: int,
    prompts: Sequence[Hashable] | None,
    seeds: Sequence[int] | None,
) -> tuple[str, ...]:
    """``image 3 (prompt 'owl', seed 0)`` for each output.

    Raises:
        ImageInputError: there are more or fewer prompts or seeds than outputs.
    """
    noun = NOUNS[medium]
    for name, values in (("prompts", prompts), ("seeds", seeds)):
        if values is not None and not is_list(values):
            raise ImageTypeError(f"{name} must be a list, one for each {noun}, not {values!r}")
        if values is not None and len(values) != number:
            raise ImageInputError(
                f"there are {len(values)} {name} for {number} {noun}s; give one for each {noun}"
            )
    labels = []
    for index in range(number):
        parts = [] if prompts is None else [f"prompt {prompts[index]!r}"]
        parts += [] if seeds is None else [f"seed {seeds[index]}"]
        labels.append(f"{noun} {index + 1}" + (f" ({', '.join(parts)})" if parts else ""))
    return tuple(labels)


def require_sane_baseline(found: Sequence[Finding], labels: Sequence[str]) -> None:
    """Nothing can be compared with broken outputs.

    Raises:
        ImageInputError: the baseline's own output is broken.
    """
    for finding in found:
        what = f"the baseline's {labels[finding.image]} {finding.problem}"
        if finding.kind == RANGE:  # the figures are fine, and the caller can give them otherwise
            raise ImageInputError(f"{what}; both sides must be in that range")
        raise ImageInputError(
            f"{what}, so nothing can be compared with it; choose other prompts, or fix the baseline"
        )


def sane_cases(
    found: Sequence[Finding], number: int, prompts: Sequence[Hashable] | None
) -> tuple[list[int], list[Hashable]]:
    """The outputs that are not broken, and what each of them was drawn from: without prompts each
    is of something else.
    """
    broken = {finding.image for finding in found}
    sane = [index for index in range(number) if index not in broken]
    return sane, [index if prompts is None else prompts[index] for index in sane]


def not_checked(skipped: Mapping[str, str]) -> list[str]:
    """``NOT CHECKED: rank1_mean, rank1_worst, since …``: one sentence for each reason."""
    by_reason: dict[str, list[str]] = {}
    for limit, why in skipped.items():
        by_reason.setdefault(why, []).append(limit)
    return [f"NOT CHECKED: {', '.join(limits)}, since {why}" for why, limits in by_reason.items()]


def require_arguments(given: object, floor: object, floor_rmse: object) -> None:
    """Refuse what is not of the kind that the arguments of a comparison have, before it costs time.

    Raises:
        ImageTypeError: naming the argument and what it takes.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ImageTypeError(
            f"given must be figures by metric, such as {{'{GIVEN[0]}': [0.1]}}, not {given!r}"
        )
    if isinstance(floor_rmse, bool) or not isinstance(floor_rmse, numbers.Real):
        raise ImageTypeError(f"floor_rmse must be a number such as 0.01, not {floor_rmse!r}")
    figures = {} if floor is None else floor
    if isinstance(figures, Mapping) and all(map(_is_mean_and_worst, figures.values())):
        return
    raise ImageTypeError(
        "floor must be the mean and the worst figure by metric, such as {'psnr': (60.0, 55.0)}, "
        f"not {floor!r}"
    )


def _is_mean_and_worst(figures: object) -> bool:
    return (
        isinstance(figures, (tuple, list))
        and len(figures) == len(KINDS)
        and all(isinstance(one, numbers.Real) for one in figures)
    )


_PerOutput = tuple[tuple[float, ...], ...]


def _given(given: Mapping[str, Sequence[float]], number: int, noun: str) -> dict[str, _PerOutput]:
    values: dict[str, _PerOutput] = {}
    for name, figures in given.items():
        if name not in GIVEN:
            raise LimitError(f"only {' and '.join(GIVEN)} can be given, not {name!r}")
        if not is_list(figures):
            raise ImageTypeError(
                f"{name} must be a list of figures, one for each {noun}, not {figures!r}"
            )
        if len(figures) not in (1, number):
            raise ImageInputError(f"{name} has {len(figures)} figures for {number} {noun}s")
        values[name] = tuple((float(figure),) for figure in figures)
    return values


def _spread(values: Sequence[Sequence[float]], sane: Sequence[int], number: int) -> _PerOutput:
    """The figures of each output; NaN for broken ones, of which a metric would say something."""
    figures: list[tuple[float, ...]] = [(math.nan,)] * number
    for index, of_one in zip(sane, values, strict=True):
        figures[index] = tuple(of_one)
    return tuple(figures)


def _why_absent(metric: str, absent: Mapping[str, str]) -> str:
    if metric in GIVEN:
        return f"nobody measured {metric}; it is given with `given={{{metric!r}: […]}}`"
    return absent[metric]


def _worst(metric: str, values: Sequence[float]) -> float:
    return values[_worst_index(metric, values)]


def _worst_index(metric: str, values: Sequence[float]) -> int:
    for index, value in enumerate(values):
        if math.isnan(value):
            return index
    pick = min if HIGHER_IS_BETTER[metric] else max
    return pick(range(len(values)), key=values.__getitem__)


def _mean(metric: str, of_outputs: _PerOutput) -> float:
    values = [_capped(metric, value) for of_one in of_outputs for value in of_one]
    return sum(values) / len(values)


def _capped(metric: str, value: float) -> float:
    """Decibels end at :data:`HIGHEST_DB`; NaN stays."""
    return HIGHEST_DB if metric in IN_DECIBELS and value > HIGHEST_DB else value


def _worst_frame(index: int, frames: Mapping[str, _PerOutput], found: Sequence[Finding]) -> int:
    for finding in found:
        if finding.image == index:
            return finding.frame or 0
    leading = next((name for name in _LEADING if name in frames), None)
    return 0 if leading is None else _worst_index(leading, frames[leading][index])


def _misses(
    limits: Mapping[str, float],
    metrics: Mapping[str, tuple[float, float]],
    frames: Mapping[str, _PerOutput],
    worst: Mapping[str, int],
) -> tuple[Miss, ...]:
    misses = []
    for limit, bound in limits.items():
        metric = metric_of(limit)
        if metric not in metrics:
            continue
        figure = metrics[metric][KINDS.index(limit.rpartition("_")[2])]
        if not met(limit, figure, bound):
            of_worst = frames[metric][worst[metric]]
            frame = _worst_index(metric, of_worst) if len(of_worst) > 1 else None
            misses.append(Miss(limit, figure, bound, worst[metric], frame))
    return tuple(misses)


def _limits_under_floor(
    limits: Mapping[str, float], floor: Mapping[str, tuple[float, float]]
) -> list[str]:
    notes = []
    for limit, bound in limits.items():
        if metric_of(limit) not in floor:
            continue
        reached = floor[metric_of(limit)][KINDS.index(limit.rpartition("_")[2])]
        if not met(limit, reached, bound):
            notes.append(
                f"the limit {limit} {bound:.4g} is under the floor: the baseline against itself "
                f"with other kernels reaches {reached:.4g}, so no candidate can be held to it"
            )
    return notes


def _verdict(
    found: Sequence[Finding], misses: Sequence[Miss], checked: Sequence[str]
) -> Literal["PASS", "FAIL", "INCONCLUSIVE"]:
    if found or misses:
        return "FAIL"
    return "PASS" if checked else "INCONCLUSIVE"


def _reason(
    medium: str,
    found: Sequence[Finding],
    misses: Sequence[Miss],
    labels: Sequence[str],
    order: Sequence[int],
    worst_frame: Sequence[int],
    checked: Sequence[str],
    skipped: Mapping[str, str],
) -> str:
    unchecked = "".join(f"; {sentence}" for sentence in not_checked(skipped))
    if found:
        first = found[0]
        others = f", and {len(found) - 1} more are broken" if len(found) > 1 else ""
        return f"{labels[first.image]} {first.problem}{others}"
    if misses:
        first_miss = misses[0]
        where = labels[first_miss.image] + _frame_text(first_miss)
        sentence = f"{first_miss} (worst: {where})"
        if len(misses) > 1:
            sentence += f"; also {', '.join(str(miss) for miss in misses[1:])}"
        return sentence + unchecked
    if not checked:
        example = "snr_worst=20" if medium == "audio" else "psnr_worst=20"
        return f"no limit was checked; name a preset, or limits such as {example}" + unchecked
    where = labels[order[0]]
    where += f", frame {worst_frame[order[0]] + 1}" if medium == VIDEO else ""
    many = f"{len(labels)} {NOUNS[medium]}s"
    return f"{many} within {len(checked)} limits; worst: {where}{unchecked}"


def _frame_text(miss: Miss) -> str:
    if miss.frame is None:
        return ""
    if metric_of(miss.limit) == "flicker":
        return f", from frame {miss.frame + 1} to {miss.frame + 2}"
    return f", frame {miss.frame + 1}"


def _order(images: Mapping[str, Sequence[float]], broken: set[int], number: int) -> tuple[int, ...]:
    """Broken outputs first, then by down-sampled SSIM, by PSNR and by SNR, as far as there are."""

    def badness(index: int) -> tuple[float, ...]:
        leading = [images[name][index] for name in _LEADING if name in images]
        return (0.0, *(0.0 for _ in leading)) if index in broken else (1.0, *leading)

    return tuple(sorted(range(number), key=badness))

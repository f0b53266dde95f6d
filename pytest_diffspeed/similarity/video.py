"""A candidate's videos against its baseline's: their frames as images, and how the error moves."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch

from .compare import absent_at, add_extras, frame_figures
from .filters import comparison_size
from .inputs import (
    ImageBatch,
    ImageInputError,
    ImageTypeError,
    kind_of,
    read_images,
    shape_text,
    to_float,
)
from .presets import VIDEO, Preset, limits_of
from .ranking import rank_small
from .report import (
    Figures,
    SimilarityReport,
    conclude,
    labels_of,
    require_arguments,
    require_sane_baseline,
    sane_cases,
    unlike,
)
from .sanity import RANGE, Finding, problem_of

LAYOUTS = {"NTHWC": "NHWC", "NTCHW": "NCHW"}
_ALWAYS_WRONG = ("not finite", RANGE)
"""Kinds of findings that no frame may have; one that is blank or plain may be a fade."""


def compare_videos(
    baseline: object,
    candidate: object,
    *,
    preset: Preset | None = None,
    prompts: Sequence[Hashable] | None = None,
    seeds: Sequence[int] | None = None,
    layout: str | None = None,
    given: Mapping[str, Sequence[float]] | None = None,
    floor: Mapping[str, tuple[float, float]] | None = None,
    floor_rmse: float = 0.0,
    **limits: float,
) -> SimilarityReport:
    """Are these the baseline's videos, within limits?

    Every metric of :func:`~.compare.compare_images` is taken of each frame: a mean is over all
    frames of all videos, a worst figure is that of the worst frame, and the report says which.
    ``flicker`` is :func:`flicker`.  Rank-1 and the other-image ratio are of whole videos.

    A frame is broken where it is not finite or not in [0, 1], or where it is black, white or of one
    colour and the baseline's same frame is not.

    Args:
        baseline, candidate: videos in the same order: a tensor or an array ``N × T × H × W × C`` or
            ``N × T × C × H × W`` (or one video without ``N``), or a sequence of videos, each of
            them such an array or a sequence of frames; all of one size and length.  ``uint8`` in
            0…255 or floating point in [0, 1].  They are compared on the baseline's device.
        layout: ``"NTHWC"`` or ``"NTCHW"``, where the shape does not tell.
        preset, prompts, seeds, given, floor, floor_rmse, limits: as of images, a video each;
            ``flicker_mean`` and ``flicker_worst`` are limits too.  Presets are uncalibrated.

    Raises:
        ImageInputError: something is not a video, or the baseline's own videos are broken.
        LimitError: an unknown preset or limit, or one that videos do not have.
    """
    require_arguments(given, floor, floor_rmse)
    wanted = limits_of(preset, limits, VIDEO)
    x = read_videos(baseline, "the baseline's videos", layout)
    y = read_videos(candidate, "the candidate's videos", layout)
    labels = labels_of(VIDEO, len(x), prompts, seeds)
    shapes = (len(x), *x[0].shape), (len(y), *y[0].shape)
    problems = [[problem_of(frame) for frame in video] for video in x]
    require_sane_baseline(_broken(problems), labels)
    if shapes[0] != shapes[1]:
        return unlike(VIDEO, *shapes, wanted, labels)
    found = _broken_candidate(y, problems)
    sane, keys = sane_cases(found, len(x), prompts)
    figures = Figures()
    if sane:
        figures = _figures(x, y, sane, keys, floor_rmse)
        pairs = (
            (to_float(first), to_float(second).to(first.device))
            for index in sane
            for first, second in zip(x[index].images, y[index].images, strict=True)
        )
        add_extras(figures, wanted, pairs, [len(x[index]) for index in sane])
    return conclude(
        VIDEO,
        figures,
        labels=labels,
        limits=wanted,
        preset=preset,
        found=found,
        given=given,
        floor=floor,
    )


def flicker(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """How much the error changes from frame to frame: what no metric of single frames sees.

    For each two frames that follow each other, the RMS over pixels and channels of ``(y[t+1] -
    y[t]) - (x[t+1] - x[t])``: the difference of the frame-to-frame differences of candidate ``y``
    and baseline ``x``, at about 256 pixels a side (:func:`~.filters.comparison_size`).  The unit is
    that of pixels, the range from black to white.  It is the temporal difference of the error, so
    an error that stays has none, one that is new in each frame has sqrt(2) times its RMSE, and a
    brightness that alternates by ± a has 2 a.

    Args:
        baseline, candidate: one video each, ``T × C × H × W`` in [0, 1].

    Returns:
        ``(T - 1,)``, the first for the first two frames.

    Raises:
        ImageInputError: the shapes differ.
    """
    if baseline.shape != candidate.shape:
        raise ImageInputError(
            f"the videos differ in shape: {shape_text(baseline)} and {shape_text(candidate)}"
        )
    return _flicker(*(comparison_size(to_float(video)) for video in (baseline, candidate)))


def _flicker(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    error = y.to(precise) - x.to(precise)
    return error.diff(dim=0).square().mean(dim=(1, 2, 3)).sqrt()


def read_videos(value: object, name: str = "videos", layout: str | None = None) -> list[ImageBatch]:
    """Videos as a batch of frames each, not copied; all of one length and size.

    Raises:
        ImageInputError: they are something else, or differ in shape.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ImageInputError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}")
    of_frames = None if layout is None else LAYOUTS[layout]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        if value.ndim not in (4, 5) or 0 in value.shape:
            raise ImageInputError(
                f"{name} have the shape {shape_text(value.shape)}; give N × T × H × W × C or "
                "N × T × C × H × W (or one video without N), none of them zero"
            )
        each = list(value) if value.ndim == 5 else [value]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        each = list(value) if _is_video(value[0]) else [value]
    else:
        raise ImageTypeError(
            f"{name} are {kind_of(value)}; give a tensor, an array or a list of videos, at "
            "least one"
        )
    videos = [read_images(video, f"{name}[{i}]", of_frames) for i, video in enumerate(each)]
    shapes = {video.shape for video in videos}
    if len(shapes) > 1:
        shapes_text = "; ".join(sorted(shape_text(shape) for shape in shapes))
        raise ImageInputError(
            f"{name} differ in shape ({shapes_text}); give videos of one size and length"
        )
    return videos


def _is_video(value: object) -> bool:
    """A frame has three axes, or is a picture of PIL's."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return value.ndim == 4
    return isinstance(value, Sequence)


_Problems = Sequence[tuple[str, str] | None]


def video_findings(videos: Sequence[ImageBatch]) -> tuple[Finding, ...]:
    """The problems of videos as such, at most one each.

    A video is broken by one frame that is not a picture, or by showing nothing at all.
    """
    return _broken([[problem_of(frame) for frame in video] for video in videos])


def _broken(problems: Sequence[_Problems]) -> tuple[Finding, ...]:
    found = []
    for index, frames in enumerate(problems):
        wrong = [i for i, problem in enumerate(frames) if problem and problem[0] in _ALWAYS_WRONG]
        if not wrong and all(frames):
            wrong = list(range(len(frames)))
        if wrong:
            found.append(_finding(index, wrong, frames))
    return tuple(found)


def _broken_candidate(
    y: Sequence[ImageBatch], problems: Sequence[_Problems]
) -> tuple[Finding, ...]:
    found = []
    for index, (video, of_baseline) in enumerate(zip(y, problems, strict=True)):
        frames = [problem_of(frame) for frame in video]
        wrong = [
            place
            for place, (problem, own) in enumerate(zip(frames, of_baseline, strict=True))
            if problem and (problem[0] in _ALWAYS_WRONG or own is None)
        ]
        if wrong:
            found.append(_finding(index, wrong, frames))
    return tuple(found)


def _finding(index: int, wrong: Sequence[int], frames: _Problems) -> Finding:
    problem = frames[wrong[0]]
    assert problem is not None, "unreachable because only frames with a problem are wrong"
    kind, text = problem
    others = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    found, stop, hint = text.partition(";")  # the place belongs to what is wrong, not to its remedy
    return Finding(index, kind, f"{found} in frame {wrong[0] + 1}{others}{stop}{hint}", wrong[0])


def _figures(
    x: Sequence[ImageBatch],
    y: Sequence[ImageBatch],
    sane: Sequence[int],
    prompts: Sequence[Hashable],
    floor_rmse: float,
) -> Figures:
    frames = range(len(x[0]))
    figures = Figures()
    small: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for index in sane:
        values, shrunk = frame_figures(x[index], y[index], frames)
        for name, of_frames in values.items():
            figures.values.setdefault(name, []).append(of_frames)
        if len(frames) > 1:
            figures.values.setdefault("flicker", []).append(_flicker(*shrunk).tolist())
        for videos, one in zip(small, shrunk, strict=True):
            videos.append(one)
    figures.absent.update(absent_at(x[0].shape))
    if len(frames) == 1:
        figures.absent["flicker"] = "flicker is left out: the videos have a single frame"
    first, second = (torch.stack(videos) for videos in small)
    ranking = rank_small(first, second, prompts, floor_rmse, "video")
    return figures.add_ranking(ranking)

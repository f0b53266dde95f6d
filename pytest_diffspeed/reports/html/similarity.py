"""The metrics of ``image_similarity`` and the captions of its pictures, videos' and sounds' too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..loose import count, mapping, mappings, number, sequence, word
from ..metric_names import metric_name, short_metric_name

_CAPTIONED = ("psnr", "ssim", "flicker", "snr", "spectral_distance", "other_image_ratio")
_DISTANCES = ("flicker", "spectral_distance", "other_image_ratio")
_DECIBELS = ("psnr", "snr")


@dataclass(frozen=True)
class Metric:
    """One row: what was found and what is allowed, on the mean and on the worst image."""

    name: str
    mean: str
    worst: str
    mean_limit: str
    worst_limit: str
    floor: str
    missed_mean: bool
    missed_worst: bool


@dataclass(frozen=True)
class CaptionFigure:
    """A metric of one picture: ``text`` is what was found, ``asked`` what the worst of all must
    keep, as ``at least 19 asked``.
    """

    name: str
    text: str
    asked: str
    is_missed: bool


@dataclass(frozen=True)
class Caption:
    """Of one picture."""

    prompt: str
    seed: str
    figures: tuple[CaptionFigure, ...]
    note: str
    missed: tuple[str, ...]
    is_wide: bool
    """Strips of frames and spectrograms are not readable beside each other."""


def metrics(figures: Mapping[str, Any]) -> tuple[Metric, ...]:
    """The rows, limited ones first."""
    limits = mapping(figures.get("limits"))
    floor = mapping(figures.get("floor"))
    missed = {word(miss.get("limit")) for miss in mappings(figures.get("misses"))}
    rows = []
    for name, pair in mapping(figures.get("metrics")).items():
        mean, worst = (_at(pair, index) for index in (0, 1))
        bounds = [limits.get(f"{name}_{of}") for of in ("mean", "worst")]
        rows.append(
            Metric(
                name=metric_name(name, figures),
                mean=_written(mean),
                worst=_written(worst),
                mean_limit=_written(number(bounds[0])),
                worst_limit=_written(number(bounds[1])),
                floor=_written(_at(floor.get(name), 0)),
                missed_mean=f"{name}_mean" in missed,
                missed_worst=f"{name}_worst" in missed,
            )
        )
    return tuple(sorted(rows, key=lambda row: not (row.mean_limit or row.worst_limit)))


def captions(figures: Mapping[str, Any]) -> tuple[Caption, ...]:
    """In the order of the pictures: worst first."""
    cases = mappings(figures.get("cases"))
    by_image = mapping(figures.get("images"))
    worst_frames = sequence(figures.get("worst_frames"))
    found: list[Caption] = []
    for index in map(count, sequence(figures.get("order"))):
        if index is None or not 0 <= index < len(cases):
            continue
        parts = [
            _caption_figure(name, value, figures)
            for name in _CAPTIONED
            if (value := _at(by_image.get(name), index)) is not None
        ]
        frame = count(worst_frames[index]) if index < len(worst_frames) else None
        seed = count(cases[index].get("seed"))
        problems = [
            word(one.get("problem")) or ""
            for one in mappings(figures.get("findings"))
            if count(one.get("image")) == index
        ]
        found.append(
            Caption(
                prompt=word(cases[index].get("prompt")) or "",
                seed="" if seed is None else str(seed),
                figures=tuple(parts),
                note="" if frame is None else f"worst frame {frame + 1}",
                missed=tuple(filter(None, problems)),
                is_wide=word(figures.get("output")) in ("video", "audio"),
            )
        )
    return tuple(found)


def _caption_figure(metric: str, value: float, figures: Mapping[str, Any]) -> CaptionFigure:
    bound = number(mapping(figures.get("limits")).get(f"{metric}_worst"))
    is_distance = metric in _DISTANCES
    missed = bound is not None and (value > bound if is_distance else value < bound)
    return CaptionFigure(
        name=short_metric_name(metric, figures),
        text=f"{value:.4g}{' dB' if metric in _DECIBELS else ''}",
        asked="" if bound is None else f"at {'most' if is_distance else 'least'} {bound:.4g} asked",
        is_missed=missed,
    )


def _at(values: Any, index: int) -> float | None:
    found = sequence(values)
    return number(found[index]) if index < len(found) else None


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"

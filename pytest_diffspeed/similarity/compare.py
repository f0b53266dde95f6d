"""A candidate's images against its baseline's: sanity, metrics, limits, verdict."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

import torch

from .extras import EXTRAS, ExtraUnavailableError, extra
from .filters import WINDOW, comparison_shape, comparison_size
from .inputs import ImageBatch, read_images, to_float
from .metrics import pixel_errors, ssim, ssim_and_ms_ssim
from .presets import IMAGE, Preset, limits_of, metric_of
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
from .sanity import findings

CPU_PIXELS, ACCELERATOR_PIXELS = 2**20, 2**23
"""As many are in floating point at a time: 64 images of 1024 × 1024 would take 1.5 GiB."""


def compare_images(
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

    Images smaller than SSIM's window (11 pixels a side) have no SSIM and no MS-SSIM; the report
    says so, and limits on these are skipped.

    Raises:
        ImageInputError: something is no image, or the baseline's own images are broken.
        LimitError: an unknown preset or limit, or one that images do not have.
    """
    require_arguments(given, floor, floor_rmse)
    wanted = limits_of(preset, limits, IMAGE)
    x = read_images(baseline, "the baseline's images", layout)
    y = read_images(candidate, "the candidate's images", layout)
    labels = labels_of(IMAGE, len(x), prompts, seeds)
    require_sane_baseline(findings(x), labels)
    if x.shape != y.shape:
        return unlike(IMAGE, x.shape, y.shape, wanted, labels)
    found = findings(y)
    sane, keys = sane_cases(found, len(x), prompts)
    figures = Figures()
    if sane:
        values, small = frame_figures(x, y, sane)
        figures = Figures({name: [[one] for one in each] for name, each in values.items()})
        figures.absent.update(absent_at(x.shape))
        ranking = rank_small(small[0], small[1], keys, floor_rmse)
        figures = figures.add_ranking(ranking)
        pairs = ((to_float(x.images[i]), to_float(y.images[i]).to(x.device)) for i in sane)
        add_extras(figures, wanted, pairs, [1] * len(sane))
    return conclude(
        IMAGE,
        figures,
        labels=labels,
        limits=wanted,
        preset=preset,
        found=found,
        given=given,
        floor=floor,
    )


def frame_figures(
    x: ImageBatch, y: ImageBatch, which: Sequence[int]
) -> tuple[dict[str, list[float]], tuple[torch.Tensor, torch.Tensor]]:
    """The metrics of the images ``which``, a few at a time, in the same memory again and again; and
    these images at their :func:`~.filters.comparison_size`.
    """
    pixels = x.shape[-1] * x.shape[-2]
    limit = CPU_PIXELS if x.device.type == "cpu" else ACCELERATOR_PIXELS
    at_a_time = min(len(which), max(1, limit // pixels))
    rooms = x.room(at_a_time), y.room(at_a_time, x.device)
    shape = (len(which), *comparison_shape(x.shape)[1:])
    small = (
        torch.empty(shape, dtype=rooms[0].dtype, device=x.device),
        torch.empty(shape, dtype=rooms[1].dtype, device=x.device),
    )
    values: dict[str, list[float]] = {}
    with torch.no_grad():
        for start in range(0, len(which), at_a_time):
            some = which[start : start + at_a_time]
            pair = x.read(some, rooms[0]), y.read(some, rooms[1])
            shrunk = comparison_size(pair[0]), comparison_size(pair[1])
            for images, part in zip(small, shrunk, strict=True):
                images[start : start + len(some)] = part
            for name, figures in _pixel_metrics(pair, shrunk).items():
                values.setdefault(name, []).extend(figures.tolist())
    return values, small


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


def absent_at(shape: Sequence[int]) -> dict[str, str]:
    """Metrics that images (or frames) of this shape do not have, each with the reason."""
    height, width = shape[-2:]
    if min(height, width) >= WINDOW:
        return {}
    why = (
        f"SSIM and MS-SSIM are left out: their window has {WINDOW} pixels a side, and the images "
        f"are {height} × {width}"
    )
    return dict.fromkeys(("ssim", "ssim_full", "ms_ssim"), why)


def add_extras(
    figures: Figures,
    wanted: Mapping[str, float],
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    frames: Sequence[int],
) -> None:
    """Those that a limit asks for; where one is absent, its limits are skipped and said.

    ``frames`` is how many of the pairs belong to each output.
    """
    all_pairs = None
    for name in EXTRAS:
        asked = [limit for limit in wanted if metric_of(limit) == name]
        if not asked:
            continue
        all_pairs = list(pairs) if all_pairs is None else all_pairs
        try:
            flat = iter(extra(name, all_pairs))
        except ExtraUnavailableError as error:
            figures.skipped.update(dict.fromkeys(asked, str(error)))
            figures.notes.append(str(error))
        else:
            figures.values[name] = [[next(flat) for _ in range(number)] for number in frames]

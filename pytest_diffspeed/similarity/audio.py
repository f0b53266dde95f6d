"""A candidate's sounds against its baseline's: sanity, signal-to-noise ratio, spectra, verdict."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import torch

from .inputs import ImageInputError, ImageTypeError, kind_of, shape_text
from .presets import AUDIO, Preset, limits_of
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
from .sanity import RANGE, Finding
from .spectra import ranked_spectra, signal_to_noise, spectral_distances

SILENT_DB = -80.0
"""A wave whose highest sample is below this (of full scale, 1) is silent: 3 steps of 16 bits."""
HIGHEST_SAMPLE = 8.0
"""A decoder may exceed full scale by a few dB; by 18 it is another unit."""
CLIPPED_RUN = 3
"""As many equal samples at a wave's peak in a row are one that was cut off."""
CLIPPED_SHARE, CLIPPED_TIMES = 0.001, 1.5
"""A candidate is clipped where it has this share of samples in such runs above so many times its
baseline's: some pipelines clamp all that they decode, and then a few samples more mean nothing."""
_FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def compare_audio(
    baseline: object,
    candidate: object,
    *,
    preset: Preset | None = None,
    prompts: Sequence[Hashable] | None = None,
    seeds: Sequence[int] | None = None,
    given: Mapping[str, Sequence[float]] | None = None,
    floor: Mapping[str, tuple[float, float]] | None = None,
    floor_rmse: float = 0.0,
    **limits: float,
) -> SimilarityReport:
    """Are these the baseline's sounds, within limits?

    ``snr`` is :func:`~.spectra.signal_to_noise` in dB, ``spectral_distance`` (no unit) and
    ``log_spectral_distance`` (dB) are :func:`~.spectra.spectral_distances`.  Rank-1 and the
    other-image ratio are taken of magnitude spectra, in units of their RMS.

    A sound is broken where it is not finite, silent, a constant, beyond ± 8, or cut off at its peak
    where the baseline is not.  One of another length or number of channels is a FAIL.

    Args:
        baseline, candidate: sounds in the same order: a tensor or an array ``N × channels ×
            samples`` or ``N × samples``, or a sequence of single ones, ``channels × samples`` or
            ``samples``.  Floating point with a full scale of 1, or 16 or 32 bit integers.
        preset, prompts, seeds, given, floor, floor_rmse, limits: as of
            :func:`~.compare.compare_images`, a sound each.  Presets are uncalibrated.

    Raises:
        ImageInputError: something is not a sound, or the baseline's own sounds are broken.
        LimitError: an unknown preset or limit, or one that sounds do not have.
    """
    require_arguments(given, floor, floor_rmse)
    wanted = limits_of(preset, limits, AUDIO)
    x = as_waves(baseline, "the baseline's sounds")
    y = as_waves(candidate, "the candidate's sounds").to(x.device)
    labels = labels_of(AUDIO, len(x), prompts, seeds)
    require_sane_baseline(audio_findings(x), labels)
    if x.shape != y.shape:
        return unlike(AUDIO, x.shape, y.shape, wanted, labels)
    found = audio_findings(y, x)
    sane, keys = sane_cases(found, len(x), prompts)
    figures = Figures()
    if sane:
        figures = _figures(x[sane], y[sane], keys, floor_rmse)
    return conclude(
        AUDIO,
        figures,
        labels=labels,
        limits=wanted,
        preset=preset,
        found=found,
        given=given,
        floor=floor,
    )


def as_waves(value: object, name: str = "sounds") -> torch.Tensor:
    """Read sounds into ``N × channels × samples``, floating point with a full scale of 1.

    float64, or float32 on a device without it.

    Raises:
        ImageInputError: another type, rank or order of axes, or sounds of different sizes.
    """
    if isinstance(value, (torch.Tensor, np.ndarray)):
        waves = _floating(value, name)
        waves = waves.unsqueeze(0) if waves.dim() == 1 else waves
        waves = waves.unsqueeze(1) if waves.dim() == 2 else waves
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and value:
        each = [_floating(one, f"{name}[{i}]") for i, one in enumerate(value)]
        each = [one.unsqueeze(0) if one.dim() == 1 else one for one in each]
        if len({one.shape for one in each}) > 1:
            shapes_text = "; ".join(sorted({shape_text(one) for one in each}))
            raise ImageInputError(
                f"{name} differ in shape ({shapes_text}); give sounds of one length"
            )
        waves = torch.stack(each)
    else:
        raise ImageTypeError(
            f"{name} are {kind_of(value)}; give a tensor, an array or a list of sounds, at "
            "least one"
        )
    if waves.dim() != 3 or 0 in waves.shape or waves.shape[1] > waves.shape[2]:
        raise ImageInputError(
            f"{name} have the shape {shape_text(waves)}; give N × channels × samples or N × "
            "samples, none of them zero, and samples last"
        )
    return waves


def audio_findings(
    waves: torch.Tensor, baseline: torch.Tensor | None = None
) -> tuple[Finding, ...]:
    """The problems of sounds ``N × channels × samples``, at most one each: the first that holds.

    With a baseline's, of the same shape, those that are cut off at their peak where these are not.
    """
    found = []
    for index, wave in enumerate(waves):
        problem = _problem(wave)
        if problem is None and baseline is not None:
            share = clipped_share(wave)
            if share > clipped_share(baseline[index]) * CLIPPED_TIMES + CLIPPED_SHARE:
                problem = "clipped", f"is cut off at its peak ({share:.1%} of its samples)"
        if problem is not None:
            found.append(Finding(index, *problem))
    return tuple(found)


def clipped_share(wave: torch.Tensor) -> float:
    """The share of samples in runs of at least :data:`CLIPPED_RUN` that are all at the peak."""
    at_peak = (wave.abs() == wave.abs().amax()).reshape(-1, wave.shape[-1])
    if wave.shape[-1] < CLIPPED_RUN:
        return 0.0
    runs = at_peak.unfold(1, CLIPPED_RUN, 1).all(dim=2)
    inside = torch.zeros_like(at_peak)
    for offset in range(CLIPPED_RUN):
        inside[:, offset : offset + runs.shape[1]] |= runs
    return float(inside.to(torch.float64).mean())


def _problem(wave: torch.Tensor) -> tuple[str, str] | None:
    if not bool(torch.isfinite(wave).all()):
        share = 1.0 - float(torch.isfinite(wave).to(torch.float64).mean())
        kind = "NaN" if bool(torch.isnan(wave).any()) else "infinite"
        return "not finite", f"has {kind} samples ({share:.1%} of them are not finite)"
    low, high = float(wave.min()), float(wave.max())
    peak = max(-low, high)
    if peak > HIGHEST_SAMPLE:
        return RANGE, (
            f"has samples from {low:.4g} to {high:.4g} where full scale is 1; divide integers by "
            "their full scale"
        )
    if peak <= 10.0 ** (SILENT_DB / 20.0):
        level = "no sound at all" if peak == 0.0 else f"a peak of {20 * math.log10(peak):.0f} dB"
        return "silent", f"is silent ({level})"
    if bool((wave.amax(dim=1) - wave.amin(dim=1) <= 10.0 ** (SILENT_DB / 20.0)).all()):
        return "constant", "is a constant and no sound"
    return None


def _floating(value: object, name: str) -> torch.Tensor:
    if isinstance(value, np.ndarray):
        try:
            value = torch.from_numpy(np.ascontiguousarray(value))
        except TypeError:
            raise ImageInputError(_other_type(name, value.dtype)) from None
    if not isinstance(value, torch.Tensor):
        raise ImageTypeError(f"{name} are {kind_of(value)}; give tensors or arrays")
    precise = torch.float32 if value.device.type == "mps" else torch.float64
    if value.dtype in _FULL_SCALE:
        return value.detach().to(precise) / _FULL_SCALE[value.dtype]
    if value.dtype not in _FLOATS:
        raise ImageInputError(_other_type(name, str(value.dtype).removeprefix("torch.")))
    return value.detach().to(precise)


def _other_type(name: str, kind: object) -> str:
    return (
        f"{name} are of type {kind}; give floating point with a full scale of 1, or integers of 16 "
        "or 32 bits"
    )


def _figures(
    x: torch.Tensor, y: torch.Tensor, prompts: Sequence[Hashable], floor_rmse: float
) -> Figures:
    with torch.no_grad():
        relative, levels = spectral_distances(x, y)
        figures = {
            "snr": signal_to_noise(x, y),
            "spectral_distance": relative,
            "log_spectral_distance": levels,
        }
        ranking = rank_small(*ranked_spectra(x, y), prompts, floor_rmse, "sound")
    values = {name: [[one] for one in each.tolist()] for name, each in figures.items()}
    return Figures(values).add_ranking(ranking)

"""Magnitude spectra of waves at several resolutions, and how far two of them are apart.

The resolutions and the first distance are those of Yamamoto, Song and Kim, "Parallel WaveGAN"
(2020), with Hann windows and a quarter of each as hop.
"""

from __future__ import annotations

import math

import torch

SIZES = (512, 1024, 2048)
"""Of the Fourier transforms, in samples."""
RANGE_DB = 80.0
"""Magnitudes of less than the baseline's highest by so much count as so much: nobody hears them."""
RANKED_SIZE = 1024


def magnitudes(waves: torch.Tensor, size: int) -> torch.Tensor:
    """``… × samples`` to ``… × (size / 2 + 1) × frames``, a frame every ``size / 4`` samples.

    A periodic Hann window; waves are continued by zeros, half a window at either end.
    """
    window = torch.hann_window(size, dtype=waves.dtype, device=waves.device)
    flat = waves.reshape(-1, waves.shape[-1])
    found = torch.stft(
        flat,
        size,
        hop_length=size // 4,
        window=window,
        center=True,
        pad_mode="constant",
        return_complex=True,
    ).abs()
    return found.reshape(*waves.shape[:-1], *found.shape[-2:])


def signal_to_noise(baseline: torch.Tensor, candidate: torch.Tensor) -> torch.Tensor:
    """Energy of the baseline ÷ energy of the difference, in dB; identical waves have infinity.

    ``N × channels × samples`` each, to ``(N,)``.
    """
    signal = baseline.square().flatten(1).sum(dim=1)
    noise = (candidate - baseline).square().flatten(1).sum(dim=1)
    return 10.0 * (signal / noise).log10()


def spectral_distances(
    baseline: torch.Tensor, candidate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two distances of magnitude spectra, each the mean over :data:`SIZES`, ``(N,)``.

    The first is the *spectral convergence* ``‖|Y| - |X|‖ ÷ ‖|X|‖`` (Frobenius, over channels,
    frequencies and frames; no unit): 0 for the same spectra, 1 for silence.  The second is the mean
    absolute difference of levels in dB, levels below the baseline's highest by :data:`RANGE_DB`
    counting as that: it hears what is quiet.

    Args:
        baseline, candidate: ``N × channels × samples``.
    """
    relative, levels = [], []
    for size in SIZES:
        x, y = (magnitudes(waves, size).flatten(1) for waves in (baseline, candidate))
        relative.append((y - x).norm(dim=1) / x.norm(dim=1))
        least = x.amax(dim=1, keepdim=True) * 10.0 ** (-RANGE_DB / 20.0)
        ratio = torch.maximum(y, least).log10() - torch.maximum(x, least).log10()
        levels.append(20.0 * ratio.abs().mean(dim=1))
    return torch.stack(relative).mean(dim=0), torch.stack(levels).mean(dim=0)


def ranked_spectra(
    baseline: torch.Tensor, candidate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectra in units of the RMS of all of the baseline's, so that their distances have the same
    meaning whatever the loudness; two sounds of one kind differ in phase, and not in these.
    """
    x, y = (magnitudes(waves, RANKED_SIZE) for waves in (baseline, candidate))
    unit = math.sqrt(float(x.square().mean()))
    return x / unit, y / unit

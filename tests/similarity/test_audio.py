"""``compare_audio``: noise, spectra, and sounds that are none."""

import numpy as np
import pytest
import scipy.signal
import torch

from pytest_diffspeed import compare_audio
from pytest_diffspeed.similarity import (
    METRICS_OF,
    PRESETS,
    ImageInputError,
    LimitError,
    SkippedMetricWarning,
    signal_to_noise,
    spectral_distances,
)
from pytest_diffspeed.similarity.audio import clipped_share
from pytest_diffspeed.similarity.calibration import propose_limits
from pytest_diffspeed.similarity.presets import HIGHER_IS_BETTER
from pytest_diffspeed.similarity.spectra import magnitudes

PROMPTS = ["flute", "bell", "horn", "drum"]
RATE = 8000


def note(pitch, seconds=0.5, harmonics=5):
    """A decaying note with harmonics, stereo: 2 × samples."""
    t = np.arange(int(RATE * seconds)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, harmonics + 1))
    wave = 0.3 * wave * np.exp(-3 * t)
    return np.stack([wave, np.roll(wave, 7)])


@pytest.fixture
def sounds():
    return np.stack([note(pitch) for pitch in (220, 330, 440, 587)]).astype(np.float32)


@pytest.fixture
def noisy(sounds):
    random = np.random.default_rng(0)
    return sounds + random.normal(0, 1e-3, sounds.shape).astype(np.float32)


def test_the_same_sounds_pass_every_preset_and_say_that_it_is_uncalibrated(sounds):
    for preset in PRESETS:
        report = compare_audio(sounds, sounds, preset=preset, prompts=PROMPTS)
        assert (report.verdict, report.medium, report.misses) == ("PASS", "audio", ())
        assert report.notes == (
            "this preset is uncalibrated for audio: its limits follow from those of images",
        )
    assert set(report.metrics) == set(METRICS_OF["audio"]) - {"latent_l2", "denoiser_l2"}
    assert report.metrics["snr"] == (100.0, 100.0)
    assert report.metrics["spectral_distance"] == (0.0, 0.0)
    assert report.metrics["rank1"] == (1.0, 1.0)
    assert report.reason.startswith("4 sounds within 8 limits; worst: sound 1 (prompt 'flute')")


def spectrum(wave, size):
    """With NumPy alone: zeros half a window around, a frame each quarter window, a Hann window."""
    padded = np.pad(wave, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return np.abs(np.fft.rfft(frames * window)).T


@pytest.mark.parametrize("samples", [4000, 1301, 700])
def test_distances_are_those_that_numpy_finds(sounds, noisy, samples):
    x, y = (sound[1, :, :samples].astype(np.float64) for sound in (sounds, noisy))
    relative, levels = [], []
    for size in (512, 1024, 2048):
        a, b = (np.stack([spectrum(channel, size) for channel in wave]) for wave in (x, y))
        relative.append(np.linalg.norm(b - a) / np.linalg.norm(a))
        least = a.max() * 1e-4
        difference = np.log10(np.maximum(b, least)) - np.log10(np.maximum(a, least))
        levels.append(20 * np.abs(difference).mean())
    found = spectral_distances(torch.from_numpy(x)[None], torch.from_numpy(y)[None])
    assert float(found[0]) == pytest.approx(np.mean(relative))
    assert float(found[1]) == pytest.approx(np.mean(levels))


@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_magnitudes_are_those_of_scipy(sounds, size):
    wave = sounds[1, 0].astype(np.float64)
    window = scipy.signal.get_window("hann", size)
    spectra = scipy.signal.ShortTimeFFT(window, size // 4, RATE)
    # Its frames start before the wave and end behind it; ours are those whose middle lies inside.
    theirs = np.abs(spectra.stft(wave, p0=0, p1=len(wave) // (size // 4) + 1))
    assert magnitudes(torch.from_numpy(wave), size).numpy() == pytest.approx(theirs, abs=1e-9)


def test_the_ratio_is_that_of_energies(sounds, noisy):
    x, y = (sound.astype(np.float64) for sound in (sounds, noisy))
    expected = 10 * np.log10((x**2).sum(axis=(1, 2)) / ((y - x) ** 2).sum(axis=(1, 2)))
    assert signal_to_noise(torch.from_numpy(x), torch.from_numpy(y)).tolist() == pytest.approx(
        expected.tolist()
    )
    report = compare_audio(sounds, noisy, prompts=PROMPTS)
    assert report.metrics["snr"] == pytest.approx((expected.mean(), expected.min()))
    assert report.order == tuple(np.argsort(expected))


def resampled(wave, factor):
    places = np.arange(wave.shape[1]) * factor
    return np.stack([np.interp(places, np.arange(wave.shape[1]), c, right=0) for c in wave])


BROKEN = {
    "clipped": lambda w: np.clip(w, -0.5 * np.abs(w).max(), 0.5 * np.abs(w).max()),
    "noise": lambda w: np.random.default_rng(1).normal(0, w.std(), w.shape),
    "hissing": lambda w: w + np.random.default_rng(1).normal(0, 0.1 * w.std(), w.shape),
    "another pitch": lambda w: resampled(w, 1.06),
    "silent": np.zeros_like,
    "nearly silent": lambda w: w * 1e-5,
    "a sample late": lambda w: np.roll(w, 3, axis=1),
    "upside down": np.negative,
    "half as loud": lambda w: w / 2,
    "backwards": lambda w: w[:, ::-1],
    "channels swapped": lambda w: w[::-1],
    "a gap": lambda w: w * ((np.arange(w.shape[1]) < 1000) | (np.arange(w.shape[1]) > 1400)),
    "NaN": lambda w: np.where(np.arange(w.shape[1]) == 9, np.nan, w),
    "infinite": lambda w: np.where(np.arange(w.shape[1]) == 9, np.inf, w),
    "a constant": lambda w: np.full_like(w, 0.5),
    "16 bits": lambda w: w * 32767,
}
SANITY = {
    "clipped": "is cut off at its peak",
    "silent": "is silent (no sound at all)",
    "nearly silent": "is silent (a peak of -1",
    "NaN": "has NaN samples (0.0% of them are not finite)",
    "infinite": "has infinite samples",
    "a constant": "is a constant and no sound",
    "16 bits": "where full scale is 1; divide integers by their full scale",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_sound_fails_the_loosest_preset(sounds, broken):
    other = sounds.copy()
    other[2] = BROKEN[broken](sounds[2])
    report = compare_audio(sounds, other, preset="cache", prompts=PROMPTS, seeds=[0] * 4)
    assert report.verdict == "FAIL"
    assert report.order[0] == 2
    assert "sound 3 (prompt 'horn', seed 0)" in report.reason
    assert SANITY.get(broken, "need") in report.reason


def test_shuffled_sounds_are_not_nearest(sounds):
    report = compare_audio(sounds, np.roll(sounds, 1, axis=0), rank1_mean=1, prompts=PROMPTS)
    assert (report.verdict, report.metrics["rank1"]) == ("FAIL", (0.0, 0.0))
    assert 0.9 < report.metrics["other_image_ratio"][0] < 1.1


def test_loudness_does_not_decide_what_another_sound_is(sounds):
    """A threshold of full scale would leave quiet sounds without rank-1."""
    reports = [compare_audio(x, x, preset="exact", prompts=PROMPTS) for x in (sounds, sounds / 99)]
    assert reports[0].denominator == pytest.approx(reports[1].denominator)
    assert reports[1].denominator > 0.5


def test_sounds_that_are_alike_are_no_yardstick(sounds):
    alike = np.repeat(sounds[:1], 4, axis=0)
    with pytest.warns(SkippedMetricWarning, match="other-sound ratio are not used: one sound of"):
        assert compare_audio(alike, alike, preset="exact", prompts=PROMPTS).verdict == "PASS"


def test_a_baseline_that_is_cut_off_may_be_followed(sounds):
    loud = np.clip(sounds * 9, -1, 1)
    assert clipped_share(torch.from_numpy(loud[0])) > 0.05
    louder = np.clip(loud * 1.02, -1, 1)  # a few samples more, where a pipeline clamps them all
    assert compare_audio(loud, louder, snr_mean=10, prompts=PROMPTS).verdict == "PASS"
    assert compare_audio(loud, loud, preset="exact", prompts=PROMPTS).verdict == "PASS"


@pytest.mark.parametrize("pitch", [20, 220, 1999])
def test_a_tone_is_not_taken_for_cut_off(pitch):
    tone = np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE)[None]
    assert clipped_share(torch.from_numpy(tone)) < 1e-3


@pytest.mark.parametrize("metric", ["snr", "spectral_distance", "log_spectral_distance"])
@pytest.mark.parametrize("kind", ["mean", "worst"])
def test_each_limit_fires_in_its_own_direction(sounds, noisy, metric, kind):
    figure = compare_audio(sounds, noisy, prompts=PROMPTS).metrics[metric][kind == "worst"]
    easier = -1e-6 if HIGHER_IS_BETTER[metric] else 1e-6
    for bound, verdict in ((figure + easier, "PASS"), (figure - easier, "FAIL")):
        report = compare_audio(sounds, noisy, prompts=PROMPTS, **{f"{metric}_{kind}": bound})
        assert report.verdict == verdict


def test_the_forms_that_a_sound_may_have(sounds, noisy):
    expected = compare_audio(sounds, noisy, prompts=PROMPTS).images["snr"]
    for given in (torch.from_numpy(noisy), list(noisy), list(torch.from_numpy(noisy))):
        assert compare_audio(sounds, given, prompts=PROMPTS).images["snr"] == expected
    mono = compare_audio(sounds[:, 0], noisy[:, 0], prompts=PROMPTS).images["snr"]
    assert mono == compare_audio(sounds[:, :1], list(noisy[:, 0]), prompts=PROMPTS).images["snr"]
    integers = np.rint(sounds * 32768).astype(np.int16)
    assert compare_audio(sounds, integers, prompts=PROMPTS).metrics["snr"][1] > 60


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 4000, 2)), "have the shape 4 × 4000 × 2; give N × channels × samples"),
        (np.zeros((4, 100), np.uint8), "are of type uint8; give floating point"),
        ([], "are list; give a tensor"),
        ([np.ones(100), np.ones(101)], "differ in shape"),
        (["a.wav"], "are str; give tensors or arrays"),
    ],
)
def test_what_is_not_a_sound_is_refused(sounds, given, message):
    with pytest.raises(ImageInputError, match=message):
        compare_audio(given, sounds)


def test_a_broken_baseline_is_an_error(sounds):
    with pytest.raises(
        ImageInputError, match=r"the baseline's sound 1 is silent .* so nothing can"
    ):
        compare_audio(sounds * 0, sounds)


def test_another_length_fails(sounds):
    report = compare_audio(sounds, sounds[..., :3999], preset="cache")
    assert report.verdict == "FAIL"
    assert "sounds have the shape 4 × 2 × 3999 (N × channels × samples)" in report.reason


def test_limits_of_images_are_refused(sounds):
    with pytest.raises(
        LimitError, match="psnr_mean is a limit for image and video, and audio has no psnr; limit"
    ):
        compare_audio(sounds, sounds, psnr_mean=20)


def test_limits_are_proposed_for_what_was_measured(sounds, noisy):
    limits = propose_limits(compare_audio(sounds, noisy, prompts=PROMPTS))
    assert set(limits) == {
        f"{metric}_{kind}"
        for metric in ("snr", "spectral_distance", "other_image_ratio", "rank1")
        for kind in ("mean", "worst")
    }
    assert compare_audio(sounds, noisy, prompts=PROMPTS, **limits).verdict == "PASS"

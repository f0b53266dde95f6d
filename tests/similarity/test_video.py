"""``compare_videos``: frames, the worst of them, and what only the time between them shows."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pytest_diffspeed import compare_videos
from pytest_diffspeed.similarity import (
    METRICS_OF,
    PRESETS,
    PRESETS_OF,
    ImageInputError,
    LimitError,
    SkippedMetricWarning,
    flicker,
)
from pytest_diffspeed.similarity.presets import HIGHER_IS_BETTER

PROMPTS = ["cat", "dog", "owl", "fox"]
FRAMES = 6


@pytest.fixture
def videos(gallery):
    """Four views of a photograph, each moving by a few pixels a frame: N × T × H × W × 3."""
    moved = [[np.roll(image, (3 * t, 2 * t), (0, 1)) for t in range(FRAMES)] for image in gallery]
    return np.stack(moved[::2])[:, :, :40, :48]


@pytest.fixture
def noisy(videos):
    random = np.random.default_rng(2)
    return np.clip(videos + random.normal(0, 2e-3, videos.shape), 0, 1).astype(np.float32)


def brightness(video, change):
    """``video`` with ``change`` per frame added, away from black and white."""
    return (0.1 + 0.8 * video + np.asarray(change)[:, None, None, None]).astype(np.float32)


def test_the_same_videos_pass_every_preset_and_say_that_it_is_uncalibrated(videos):
    for preset in PRESETS:
        report = compare_videos(videos, videos, preset=preset, prompts=PROMPTS, seeds=[0] * 4)
        assert (report.verdict, report.medium, report.misses) == ("PASS", "video", ())
        assert report.notes == (
            "this preset is uncalibrated for video: its limits on frames are those of images",
        )
    assert set(report.metrics) == set(METRICS_OF["video"]) - {
        *("latent_l2", "denoiser_l2", "lpips", "flip")
    }
    assert report.metrics["flicker"] == (0.0, 0.0)
    assert report.metrics["rank1"] == (1.0, 1.0)
    assert report.reason == (
        "4 videos within 10 limits; worst: video 1 (prompt 'cat', seed 0), frame 1"
    )


def test_a_mean_is_over_all_frames_and_the_worst_is_one_frame(videos, noisy):
    noisy[2, 4] = np.clip(videos[2, 4] + 0.02, 0, 1)
    report = compare_videos(videos, noisy, prompts=PROMPTS, psnr_worst=40, flicker_worst=1e-3)
    x, y = (video.reshape(-1, *video.shape[2:]) for video in (videos, noisy))
    ssim = [
        structural_similarity(
            first,
            second,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=2,
            full=True,
        )[1][5:-5, 5:-5].mean()
        for first, second in zip(x, y, strict=True)
    ]
    psnr = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(x, y, strict=True)]
    assert report.metrics["psnr"] == pytest.approx((np.mean(psnr), min(psnr)))
    assert report.metrics["ssim"] == pytest.approx((np.mean(ssim), min(ssim)), abs=1e-4)
    assert np.ravel(report.frames["psnr"]) == pytest.approx(np.array(psnr))
    assert [miss.frame for miss in report.misses] == [4, 3]
    assert "(worst: video 3 (prompt 'owl'), frame 5); also flicker_worst is" in report.reason


def test_flicker_is_the_difference_of_the_differences_of_frames(videos, noisy):
    x, y = (video.astype(np.float64) for video in (videos[0], noisy[0]))
    expected = np.sqrt(np.mean((np.diff(y, axis=0) - np.diff(x, axis=0)) ** 2, axis=(1, 2, 3)))
    given = flicker(*(torch.from_numpy(v).permute(0, 3, 1, 2) for v in (videos[0], noisy[0])))
    assert given.tolist() == pytest.approx(expected.tolist())
    report = compare_videos(videos[:1], noisy[:1])
    assert report.frames["flicker"][0] == pytest.approx(expected.tolist())
    assert report.images["flicker"] == (pytest.approx(max(expected)),)


def test_an_error_that_stays_does_not_flicker_and_one_that_alternates_does(videos):
    base = brightness(videos[0], np.zeros(FRAMES))[None]
    steady = compare_videos(base, brightness(videos[0], np.full(FRAMES, 0.03))[None])
    signs = 0.03 * (-1.0) ** np.arange(FRAMES)
    alternating = compare_videos(base, brightness(videos[0], signs)[None])
    # Frame by frame nobody can tell them apart.
    assert steady.metrics["psnr"] == pytest.approx(alternating.metrics["psnr"], abs=1e-3)
    assert steady.metrics["flicker"] == pytest.approx((0.0, 0.0), abs=1e-6)
    assert alternating.metrics["flicker"] == pytest.approx((0.06, 0.06), abs=1e-6)


BROKEN = {
    "frames permuted": lambda v: v[[0, 2, 1, 3, 5, 4]],
    "played backwards": lambda v: v[::-1],
    "a frame late": lambda v: v[[0, 0, 1, 2, 3, 4]],
    "standing still": lambda v: np.repeat(v[:1], FRAMES, axis=0),
    "one frame black": lambda v: v * (np.arange(FRAMES) != 3)[:, None, None, None],
    "one frame NaN": lambda v: v * np.where(np.arange(FRAMES) == 3, np.nan, 1)[:, None, None, None],
    # 34 dB: the loosest preset's PSNR lets it through.
    "flickering": lambda v: v + 0.02 * ((-1.0) ** np.arange(FRAMES))[:, None, None, None],
    "another video": lambda v: v[:, ::-1, ::-1],
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_video_fails_the_loosest_preset(videos, broken):
    base = np.stack([brightness(video, np.zeros(FRAMES)) for video in videos])
    other = base.copy()
    other[1] = BROKEN[broken](base[1])
    report = compare_videos(base, other, preset="cache", prompts=PROMPTS)
    assert report.verdict == "FAIL"
    assert report.order[0] == 1
    assert "video 2 (prompt 'dog')" in report.reason


def test_a_broken_frame_is_named(videos):
    other = videos.copy()
    other[1, 3] = 0.0
    other[2, 4:] = np.nan
    report = compare_videos(videos, other, preset="cache", prompts=PROMPTS)
    assert report.reason == "video 2 (prompt 'dog') is black in frame 4, and 1 more are broken"
    assert report.findings[1].problem.endswith("not finite) in frame 5 and 1 more")
    assert report.worst_frame[1:3] == (3, 4)
    assert report.order[:2] == (1, 2)


def test_a_fade_from_black_is_no_defect_where_the_baseline_has_it(videos):
    fading = videos.copy()
    fading[:, 0] = 0.0
    assert compare_videos(fading, fading, preset="exact", prompts=PROMPTS).verdict == "PASS"
    assert compare_videos(videos, fading, preset="cache", prompts=PROMPTS).verdict == "FAIL"


@pytest.mark.parametrize(
    ("wrong", "then"), [(0.0, ", so"), (np.nan, ", so"), (3.0, "; divide by 255; both sides")]
)
def test_a_broken_baseline_is_an_error(videos, wrong, then):
    broken = videos.copy()
    broken[2] = wrong
    with pytest.raises(
        ImageInputError, match=rf"the baseline's video 3 .* in frame 1 and 5 more{then}"
    ):
        compare_videos(broken, videos, preset="cache")


@pytest.mark.parametrize("limit", ["flicker_mean", "flicker_worst", "psnr_mean", "ssim_worst"])
def test_each_limit_fires_in_its_own_direction(videos, noisy, limit):
    metric, _, kind = limit.rpartition("_")
    figure = compare_videos(videos, noisy, prompts=PROMPTS).metrics[metric][kind == "worst"]
    easier = -1e-6 if HIGHER_IS_BETTER[metric] else 1e-6
    for bound, verdict in ((figure + easier, "PASS"), (figure - easier, "FAIL")):
        assert compare_videos(videos, noisy, prompts=PROMPTS, **{limit: bound}).verdict == verdict


def test_the_forms_that_a_video_may_have(videos, noisy):
    tensor = torch.from_numpy(noisy)
    expected = compare_videos(videos, noisy, prompts=PROMPTS).images
    frames = [[frame for frame in video] for video in noisy]
    for given in (tensor, tensor.permute(0, 1, 4, 2, 3), list(noisy), frames):
        assert compare_videos(videos, given, prompts=PROMPTS).images == expected
    assert compare_videos(videos[0], frames[0]).images["mae"][0] == expected["mae"][0]
    named = compare_videos(videos, tensor, layout="NTHWC", prompts=PROMPTS)
    assert named.images == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 40)), "have the shape 4 × 40; give N × T × H × W × C"),
        ([], "are list; give a tensor"),
        ("video.mp4", "are str; give a tensor"),
        ([np.zeros((3, 20, 20, 3)), np.zeros((4, 20, 20, 3))], "differ in shape"),
        (np.zeros((2, 3, 20, 20, 4)), "without an axis of 1 or 3 channels"),
    ],
)
def test_what_is_not_a_video_is_refused(videos, given, message):
    with pytest.raises(ImageInputError, match=message):
        compare_videos(given, videos)


def test_another_length_fails(videos):
    report = compare_videos(videos, videos[:, :5], preset="cache")
    assert report.verdict == "FAIL"
    assert report.reason.startswith(
        "the candidate's videos have the shape 4 × 5 × 3 × 40 × 48 (N ×"
    )


def test_limits_of_audio_are_refused(videos):
    with pytest.raises(
        LimitError, match="snr_mean is a limit for audio, and video has no snr; limit one"
    ):
        compare_videos(videos, videos, snr_mean=20)


def test_a_single_frame_has_no_flicker_and_says_so(videos):
    with pytest.warns(SkippedMetricWarning, match="flicker_worst, since flicker is left out"):
        report = compare_videos(videos[:, :1], videos[:, :1], preset="exact", prompts=PROMPTS)
    assert report.verdict == "PASS"
    assert "flicker" not in report.metrics


def test_the_limit_on_flicker_is_that_of_an_error_new_in_each_frame(videos):
    """Just the PSNR that a preset allows, independent in each frame: sqrt(2) of its RMSE."""
    psnr = PRESETS_OF["video"]["cache"]["psnr_mean"]
    random = np.random.default_rng(0)
    base = np.stack([brightness(video, np.zeros(FRAMES)) for video in videos])
    other = base + random.normal(0, 10 ** (-psnr / 20), base.shape).astype(np.float32)
    found = compare_videos(base, np.clip(other, 0, 1)).metrics["flicker"][0]
    assert found == pytest.approx(PRESETS_OF["video"]["cache"]["flicker_mean"], rel=0.02)

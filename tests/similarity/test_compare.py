"""``compare_images``: sanity first, then every metric, limits, and which image is the worst."""

import itertools
import math
import re

import numpy as np
import pytest
import torch

from pytest_diffspeed import compare_images
from pytest_diffspeed.similarity import (
    MEDIA,
    METRICS_OF,
    PRESETS,
    PRESETS_OF,
    ImageInputError,
    LimitError,
    SkippedMetricWarning,
    findings,
    mae,
    max_abs,
    ms_ssim,
    psnr,
    rank,
    ssim,
    ssim_downsampled,
)
from pytest_diffspeed.similarity.presets import HIGHER_IS_BETTER

PROMPTS = ["cat", "dog", "owl", "fox", "eel", "bee", "ant", "cow"]


@pytest.fixture
def noisy(gallery):
    random = np.random.default_rng(2)
    return np.clip(gallery + random.normal(0, 2e-3, gallery.shape), 0, 1).astype(np.float32)


def test_the_same_images_pass_every_preset(gallery):
    for preset in PRESETS:
        report = compare_images(gallery, gallery, preset=preset, prompts=PROMPTS)
        assert (report.verdict, report.misses, report.findings) == ("PASS", (), ())
    assert report.metrics["psnr"] == (100.0, 100.0)
    assert report.metrics["ssim"] == (1.0, 1.0)
    assert report.metrics["rank1"] == (1.0, 1.0)
    assert report.metrics["other_image_ratio"] == (0.0, 0.0)
    extra = {"latent_l2", "denoiser_l2", "lpips", "flip"}
    assert set(report.metrics) == set(METRICS_OF["image"]) - extra
    assert report.reason.startswith(f"8 images within {len(PRESETS['cache'])} limits; worst: image")


BROKEN = {
    "NaN": (
        lambda image: image * np.where(np.arange(64) == 5, np.nan, 1)[:, None],
        "has NaN values",
    ),
    "infinity": (
        lambda image: image + np.where(np.arange(64) == 5, np.inf, 0)[:, None],
        "infinite",
    ),
    "black": (np.zeros_like, "is black"),
    "white": (np.ones_like, "is white"),
    "nearly black": (
        lambda image: np.where(np.arange(64 * 64 * 3).reshape(image.shape) == 7, 1, 0),
        "is black but for",
    ),
    "one colour": (lambda image: np.broadcast_to([0.2, 0.5, 0.7], image.shape), "is of one colour"),
    "0 to 255": (lambda image: image * 255, "instead of .0, 1.; divide by 255"),
    "-1 to 1": (lambda image: image * 2 - 1, "take .x . 1. / 2"),
}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("broken", BROKEN)
def test_one_broken_image_fails_every_preset(gallery, broken, preset):
    change, problem = BROKEN[broken]
    other = gallery.copy()
    other[3] = change(gallery[3])
    report = compare_images(gallery, other, preset=preset, prompts=PROMPTS, seeds=[7] * 8)
    assert report.verdict == "FAIL"
    assert report.reason.startswith("image 4 (prompt 'fox', seed 7) ")
    assert re.search(problem, report.reason)
    assert report.order[0] == 3
    assert math.isnan(report.images["ssim"][3])
    assert report.images["ssim"][0] == 1.0
    assert math.isnan(report.metrics["psnr"][0])


def test_all_broken_is_a_fail_without_metrics(gallery):
    report = compare_images(gallery, np.full_like(gallery, np.nan), psnr_mean=1.0, prompts=PROMPTS)
    assert report.verdict == "FAIL"
    assert report.reason.endswith("and 7 more are broken")
    assert report.metrics == {}


def test_a_broken_baseline_is_an_error(gallery):
    baseline = gallery.copy()
    baseline[2] = 0.0
    with pytest.raises(ImageInputError, match=r"baseline's image 3 is black, so nothing can be"):
        compare_images(baseline, gallery, preset="cache")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x * 255, r"instead of .0, 1.; divide by 255; both sides must be in that range$"),
        (lambda x: x * 3 - 1.5, r"instead of .0, 1.; both sides must be in that range$"),
    ],
)
def test_a_baseline_of_another_range_says_what_to_give(gallery, change, said):
    with pytest.raises(ImageInputError, match=said):
        compare_images(change(gallery), gallery, preset="cache")


def test_a_report_reads_as_a_verdict_and_its_figures(gallery, noisy):
    report = compare_images(gallery, noisy, psnr_mean=99, prompts=PROMPTS)
    first, second, *notes = str(report).splitlines()
    assert first == f"FAIL: {report.reason}"
    assert second.startswith("  8 images, mean (worst): PSNR ")
    assert f"SSIM {report.metrics['ssim'][0]:.4f} ({report.metrics['ssim'][1]:.4f})" in second
    assert notes == [f"  {note}" for note in report.notes]


def test_another_shape_fails(gallery):
    report = compare_images(gallery, gallery[:, :32], preset="cache")
    assert report.verdict == "FAIL"
    assert "shape 8 × 3 × 32 × 64" in report.reason
    report = compare_images(gallery, gallery[:7], preset="cache")
    assert report.verdict == "FAIL"


def test_the_reason_names_limit_image_prompt_and_seed(gallery, noisy):
    noisy[5] = np.clip(gallery[5] * 0.5, 0, 1)
    report = compare_images(
        gallery, noisy, prompts=PROMPTS, seeds=range(8), psnr_worst=30, ssim_mean=0.5
    )
    assert report.verdict == "FAIL"
    assert [miss.limit for miss in report.misses] == ["psnr_worst"]
    assert "psnr_worst is" in report.reason
    assert "need ≥ 30 (worst: image 6 (prompt 'bee', seed 5))" in report.reason
    assert report.order[0] == report.worst["psnr"] == 5


# Those of the extras have their own tests.
@pytest.mark.parametrize(
    "limit",
    [
        f"{metric}_{kind}"
        for metric in METRICS_OF["image"]
        for kind in ("mean", "worst")
        if metric not in ("lpips", "flip")
    ],
)
def test_each_limit_fires_in_its_own_direction(gallery, noisy, limit):
    """Just met, and just missed."""
    metric, _, kind = limit.rpartition("_")
    given = {"latent_l2": [0.1] * 7 + [0.3], "denoiser_l2": [0.2]}
    measured = compare_images(gallery, noisy, prompts=PROMPTS, given=given)
    figure = measured.metrics[metric][kind == "worst"]
    easier = -1e-6 if HIGHER_IS_BETTER[metric] else 1e-6
    for bound, verdict in ((figure + easier, "PASS"), (figure - easier, "FAIL")):
        report = compare_images(gallery, noisy, prompts=PROMPTS, given=given, **{limit: bound})
        assert report.verdict == verdict, (limit, bound)
        assert report.found(limit) == figure


def test_mean_and_worst_are_those_of_the_images(gallery, noisy):
    report = compare_images(gallery, noisy, prompts=PROMPTS)
    for name, figures in report.images.items():
        pick = min if HIGHER_IS_BETTER[name] else max
        assert report.metrics[name] == (pytest.approx(np.mean(figures)), pick(figures))
        assert figures[report.worst[name]] == pick(figures)


def test_one_identical_image_cannot_hide_the_others_in_the_mean(gallery, noisy):
    noisy[0] = gallery[0]
    assert compare_images(gallery, noisy).metrics["psnr"][0] < 65


def test_a_preset_is_overridden_one_by_one(gallery, noisy):
    assert compare_images(gallery, noisy, preset="cache").verdict == "PASS"
    report = compare_images(gallery, noisy, preset="cache", psnr_mean=90)
    assert [miss.limit for miss in report.misses] == ["psnr_mean"]
    assert report.limits == {**PRESETS["cache"], "psnr_mean": 90.0}


def test_without_limits_there_is_no_verdict(gallery, noisy):
    report = compare_images(gallery, noisy)
    assert report.verdict == "INCONCLUSIVE"
    assert "name a preset" in report.reason
    assert report.metrics["psnr"][0] > 40


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"preset": "loseless"}, "did you mean 'lossless'"),
        ({"pnsr_mean": 20}, "did you mean 'psnr_mean'"),
        ({"snr_mean": 20}, "snr_mean is a limit for audio, and image has no snr; limit one"),
        ({"flicker_mean": 1}, "flicker_mean is a limit for video, and image has no flicker"),
        ({"psnr_mean": math.nan}, "must be finite"),
        ({"psnr_mean": True}, "must be a number"),
        ({"given": {"ssim": [1.0]}}, "only latent_l2 and denoiser_l2 can be given"),
    ],
)
def test_what_cannot_be_meant_is_refused(gallery, words, message):
    with pytest.raises(LimitError, match=message):
        compare_images(gallery, gallery, **words)


def test_labels_must_fit(gallery):
    with pytest.raises(ImageInputError, match="there are 3 prompts for 8 images"):
        compare_images(gallery, gallery, prompts=PROMPTS[:3])
    with pytest.raises(ImageInputError, match="latent_l2 has 2 figures for 8 images"):
        compare_images(gallery, gallery, given={"latent_l2": [0.0, 0.0]})


@pytest.mark.parametrize("medium", MEDIA)
def test_presets_go_from_strict_to_loose(medium):
    """So what fails the loosest fails all."""
    presets = PRESETS_OF[medium]
    names = list(presets)
    assert names == ["exact", "lossless", "int8", "w8a8", "int4", "cache", "fewer_steps", "tiles"]
    for strict, loose in itertools.pairwise(names):
        for limit, bound in presets[loose].items():
            ours = presets[strict][limit]
            higher = HIGHER_IS_BETTER[limit.rpartition("_")[0]]
            assert ours >= bound if higher else ours <= bound, (strict, loose, limit)


def test_the_trap_of_8_bit_arrays(gallery):
    """Differences of uint8 arrays wrap, and two unrelated photographs look alike."""
    x, y = (np.rint(i * 255).astype(np.uint8) for i in (gallery, gallery[::-1]))
    wrapped = 10 * np.log10(255**2 / np.mean((x - y) ** 2))
    report = compare_images(x, y, preset="cache", prompts=PROMPTS)
    assert wrapped > 25 > 15 > report.metrics["psnr"][0]
    assert report.verdict == "FAIL"
    # What arrays, tensors, lists and layouts say of the same pictures is the same.
    for images in (list(y), torch.from_numpy(y), torch.from_numpy(y).permute(0, 3, 1, 2)):
        assert compare_images(x, images, prompts=PROMPTS).images == report.images
    as_floats = compare_images(x, np.float32(y) / np.float32(255), prompts=PROMPTS)
    assert as_floats.images == report.images
    swapped = compare_images(np.float32(y) / np.float32(255), x, prompts=PROMPTS)
    assert swapped.metrics["psnr"] == report.metrics["psnr"]


def test_one_image(gallery, noisy):
    with pytest.warns(SkippedMetricWarning, match="at least two different prompts"):
        report = compare_images(gallery[0], noisy[0], preset="lossless")
    assert report.verdict == "PASS"
    assert "rank1_mean, rank1_worst, since" in report.reason
    assert report.metrics["psnr"][0] == report.metrics["psnr"][1]


@pytest.mark.parametrize("nothing", [[], np.zeros((0, 64, 64, 3)), torch.zeros(0, 3, 64, 64)])
def test_no_images_are_an_error_and_no_pass(gallery, nothing):
    with pytest.raises(ImageInputError):
        compare_images(nothing, nothing, preset="cache")
    with pytest.raises(ImageInputError):
        compare_images(gallery, nothing, preset="cache")


@pytest.mark.parametrize("side", [8, 10])
def test_images_smaller_than_the_window_go_without_ssim_and_say_so(gallery, side):
    small = np.random.default_rng(0).random((8, side, 64, 3), np.float32)
    with pytest.warns(SkippedMetricWarning, match="NOT CHECKED: ssim_mean, ssim_worst, since SSIM"):
        report = compare_images(small, small, preset="exact", prompts=PROMPTS)
    assert report.verdict == "PASS"
    assert set(report.metrics) == {"psnr", "mae", "max_abs", "other_image_ratio", "rank1"}
    assert f"pixels a side, and the images are {side} × 64" in report.notes[0]
    other = small.copy()
    other[3] = 1 - other[3]
    with pytest.warns(SkippedMetricWarning):
        report = compare_images(small, other, preset="exact", prompts=PROMPTS)
    assert report.order[0] == 3 and "(worst: image 4 (prompt 'fox'))" in report.reason


def test_what_is_given_is_not_changed(gallery, noisy):
    """Nothing is copied when images are read, so nothing may be written."""
    kept = gallery.copy(), noisy.copy()
    for images in (gallery, noisy):
        images.flags.writeable = False
    compare_images(gallery, noisy, preset="lossless", prompts=PROMPTS)
    assert np.array_equal(gallery, kept[0])
    assert np.array_equal(noisy, kept[1])


def test_images_in_several_helpings_score_as_one_by_one():
    """1.5 megapixels each, so that every image is read alone, down-sampled and ranked together."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(3, 3, 8, 12, generator=generator)
    x = torch.nn.functional.interpolate(small, size=(1000, 1500), mode="bilinear")
    y = (x + 0.02 * torch.rand(x.shape, generator=generator)).clamp(0, 1)
    report = compare_images(x, y, preset="lossless")
    for metric in (psnr, ssim, ssim_downsampled, ms_ssim, mae, max_abs):
        name = {"ssim": "ssim_full", "ssim_downsampled": "ssim"}.get(
            metric.__name__, metric.__name__
        )
        assert report.images[name] == pytest.approx(metric(x, y).tolist(), rel=1e-9)
    ranking = rank(x, y, range(3))
    assert report.images["other_image_ratio"] == pytest.approx(ranking.other_image_ratio.tolist())


# --- Ranking ---------------------------------------------------------------------------------


def test_shuffled_prompts_are_not_nearest_and_fail_every_preset(gallery):
    shuffled = np.roll(gallery, 1, axis=0)
    for preset in PRESETS:
        report = compare_images(gallery, shuffled, preset=preset, prompts=PROMPTS)
        assert report.verdict == "FAIL"
    assert report.metrics["rank1"] == (0.0, 0.0)
    assert report.metrics["other_image_ratio"][0] > 0.9


def tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def test_the_ratio_is_a_distance_over_the_median_distance_of_other_prompts(gallery, noisy):
    ranking = rank(tensor(gallery), tensor(noisy), PROMPTS)
    between = [
        np.sqrt(np.mean((a.astype(float) - b) ** 2))
        for i, a in enumerate(gallery)
        for j, b in enumerate(gallery)
        if i != j
    ]
    middle = sorted(between)[(len(between) - 1) // 2]
    own = np.sqrt(np.mean((gallery.astype(float) - noisy) ** 2, axis=(1, 2, 3)))
    assert ranking.denominator == pytest.approx(middle)
    assert ranking.other_image_ratio.tolist() == pytest.approx((own / middle).tolist())


def test_other_seeds_count_only_where_they_really_differ(gallery):
    twice = ["a", "b", "c", "d"] * 2
    differing = rank(tensor(gallery), tensor(gallery), twice)
    assert differing.other_seeds
    alike = np.concatenate([gallery[:4], np.clip(gallery[:4] + 0.01, 0, 1)])
    assert not rank(tensor(alike), tensor(alike), twice).other_seeds
    assert not rank(tensor(gallery), tensor(gallery), twice, floor_rmse=0.9).other_seeds


def test_other_images_that_look_alike_are_no_yardstick_and_fail_nothing(gallery):
    """As of pipelines in which the prompt does not decide the image: identical images must pass."""
    alike = np.clip(gallery[:1] + np.linspace(0, 0.02, 8)[:, None, None, None], 0, 1)
    for baseline in (np.repeat(gallery[:1], 8, axis=0), alike):
        with pytest.warns(SkippedMetricWarning, match="rank1_mean, rank1_worst, since rank-1 and"):
            report = compare_images(baseline, baseline, preset="exact", prompts=PROMPTS)
        assert report.verdict == "PASS"
        assert not {"rank1", "other_image_ratio"} & set(report.metrics)
        assert report.denominator < 0.05
        assert "are not used: one image of the baseline differs" in report.notes[0]
        assert report.reason.count("NOT CHECKED: other_image_ratio_mean") == 1


def test_other_images_must_differ_by_more_than_the_baseline_from_itself(gallery):
    ranking = rank(tensor(gallery), tensor(gallery), PROMPTS, floor_rmse=0.9)
    assert ranking.rank1 is None
    assert "more than 0.9000, by which the baseline differs from itself" in ranking.unused


def test_seeds_are_the_other_images_where_prompts_decide_nothing(gallery):
    """Two prompts that draw the same, as without a text encoder, and four seeds."""
    drawn = np.repeat(gallery[:4], 2, axis=0)
    report = compare_images(drawn, drawn, preset="exact", prompts=["a", "b"] * 4)
    assert (report.verdict, report.skipped, report.notes) == ("PASS", {}, ())
    assert report.metrics["rank1"] == (1.0, 1.0)
    # With seeds mixed up no image is nearest to its own.
    swapped = compare_images(drawn, np.roll(drawn, 2, axis=0), prompts=["a", "b"] * 4)
    assert swapped.metrics["rank1"] == (0.0, 0.0)


def test_seeds_of_one_prompt_are_ranked_where_they_differ(gallery):
    report = compare_images(gallery, gallery, rank1_mean=1.0, prompts=["a"] * 8)
    assert report.verdict == "PASS"
    alike = np.repeat(gallery[:1], 8, axis=0)
    with pytest.warns(SkippedMetricWarning, match="at least two different prompts, or seeds"):
        report = compare_images(alike, alike, rank1_mean=1.0, prompts=["a"] * 8)
    assert report.verdict == "INCONCLUSIVE"


def test_limits_under_the_floor_are_said(gallery, noisy):
    floor = {"psnr": (45.0, 38.0)}
    report = compare_images(gallery, noisy, psnr_mean=50, psnr_worst=30, floor=floor)
    assert [note for note in report.notes if "under the floor" in note] == [report.notes[0]]
    assert "psnr_mean 50 is under the floor" in report.notes[0]
    assert "reaches 45" in report.notes[0]


def test_findings_are_one_an_image():
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[1] = 0.0
    images[2, 0, 0, 0] = torch.nan
    assert [(f.image, f.kind) for f in findings(images)] == [(1, "blank"), (2, "not finite")]


def test_a_dark_image_is_a_picture():
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.05
    assert findings(images) == ()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"floor": 3}, r"floor must be the mean and the worst figure by metric, .*, not 3"),
        ({"floor": {"psnr": 60.0}}, r"floor must be the mean and the worst figure by metric"),
        ({"floor_rmse": "0.1"}, r"floor_rmse must be a number such as 0.01, not '0.1'"),
        ({"given": [0.1]}, r"given must be figures by metric, .*, not \[0.1\]"),
    ],
)
def test_arguments_of_another_kind_are_named_before_pixels_are_read(wrong, sentence):
    with pytest.raises(TypeError, match=sentence) as raised:
        compare_images(object(), object(), **wrong)
    assert isinstance(raised.value, ImageInputError)

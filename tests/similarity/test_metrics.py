"""Each metric against an implementation that is not ours."""

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pytest_diffspeed.similarity import (
    ImageInputError,
    as_images,
    mae,
    max_abs,
    ms_ssim,
    psnr,
    ssim,
    ssim_downsampled,
)
from pytest_diffspeed.similarity.metrics import MS_WEIGHTS, scales


def ours(metric, pair, dtype=torch.float64):
    x, y = (as_images(image).to(dtype) for image in pair)
    return float(metric(x, y))


def oracle_ssim(x, y):
    return structural_similarity(
        x,
        y,
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


def oracle_ms_ssim(x, y, number):
    """Two-dimensional convolution, one channel at a time, straight from the paper's formulas."""
    axis = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(axis, axis) / axis.sum() ** 2
    weights = np.array(MS_WEIGHTS[:number]) / sum(MS_WEIGHTS[:number])
    scores = []
    for a, b in zip(np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0), strict=True):
        score = 1.0
        for scale, weight in enumerate(weights):

            def local(values):
                return convolve2d(values, window, mode="valid")

            mean_a, mean_b = local(a), local(b)
            var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
            cov = local(a * b) - mean_a * mean_b
            term = (2 * cov + 0.0009) / (var_a + var_b + 0.0009)
            if scale == number - 1:
                term *= (2 * mean_a * mean_b + 0.0001) / (mean_a**2 + mean_b**2 + 0.0001)
            score *= max(term.mean(), 0.0) ** weight
            height, width = a.shape[0] // 2 * 2, a.shape[1] // 2 * 2
            a, b = (
                i[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
                for i in (a, b)
            )
        scores.append(score)
    return np.mean(scores)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_ssim_is_scikit_images(pair, dtype):
    assert ours(ssim, pair, dtype) == pytest.approx(oracle_ssim(*pair), abs=1e-4)


def test_ms_ssim_is_that_of_an_independent_implementation(pair):
    number = scales(min(pair[0].shape[:2]))
    assert ours(ms_ssim, pair) == pytest.approx(oracle_ms_ssim(*pair, number), abs=1e-3)


def test_ms_ssim_has_fewer_scales_on_small_images():
    assert [scales(side) for side in (11, 21, 22, 44, 88, 175, 176, 1024)] == [
        *(1, 1, 2, 3, 4, 4, 5, 5)
    ]


def test_psnr_mae_and_max_abs_are_exact(pair):
    x, y = pair
    assert ours(mae, pair) == pytest.approx(np.abs(x - y).mean(), rel=1e-12)
    assert ours(max_abs, pair) == np.abs(x - y).max()
    if np.array_equal(x, y):
        assert ours(psnr, pair) == float("inf")
    else:
        wanted = peak_signal_noise_ratio(x, y, data_range=1.0)
        assert ours(psnr, pair) == pytest.approx(wanted, rel=1e-12)


def test_psnr_of_8_bit_images_does_not_wrap(gallery):
    x, y = (np.rint(image * 255).astype(np.uint8) for image in gallery[:2])
    wrapped = 10 * np.log10(255**2 / np.mean((x - y) ** 2))  # the trap
    wanted = peak_signal_noise_ratio(x, y)
    assert wrapped - wanted > 15
    assert ours(psnr, (x, y)) == pytest.approx(wanted, abs=1e-4)


def test_a_batch_gives_what_each_image_gives(gallery):
    x, y = as_images(gallery), as_images(gallery[::-1].copy())
    for metric in (psnr, ssim, ms_ssim, mae, max_abs):
        alone = [float(metric(x[i : i + 1], y[i : i + 1])) for i in range(len(x))]
        assert metric(x, y).tolist() == pytest.approx(alone, rel=1e-12)


def test_down_sampled_ssim_forgives_fine_noise_only():
    random = np.random.default_rng(1)
    base = np.kron(random.random((1, 8, 8, 3)), np.ones((1, 96, 96, 1)))  # 768 a side: factor 3
    fine = np.clip(base + random.normal(0, 0.06, base.shape), 0, 1)
    coarse = np.clip(
        base + np.kron(random.normal(0, 0.06, (1, 48, 48, 3)), np.ones((1, 16, 16, 1))), 0, 1
    )
    x, noisy, blotchy = (as_images(image) for image in (base, fine, coarse))
    assert float(ssim_downsampled(x, noisy)) > float(ssim(x, noisy)) + 0.1
    assert float(ssim_downsampled(x, blotchy)) < float(ssim_downsampled(x, noisy)) - 0.1
    small = x[..., :64, :64]
    assert float(ssim_downsampled(small, small * 0.9)) == float(ssim(small, small * 0.9))


def test_down_sampling_leaves_no_edge_out():
    x = torch.rand(1, 3, 514, 514, generator=torch.Generator().manual_seed(0))
    y = x.clone()
    y[..., -2:] = 0.0
    assert float(ssim_downsampled(x, y)) < 1.0


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_less_than_a_window_is_refused(metric):
    x = torch.rand(1, 3, 10, 30)
    with pytest.raises(ImageInputError, match=r"not defined for 10 × 30 pixels: its window has 11"):
        metric(x, x)


def test_other_shapes_are_refused():
    with pytest.raises(
        ImageInputError, match="differ in shape: 1 × 3 × 20 × 20 and 1 × 3 × 20 × 21"
    ):
        psnr(torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 21))

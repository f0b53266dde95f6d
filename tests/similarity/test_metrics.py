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
from pytest_diffspeed.similarity.blocks import CPU_ELEMENTS, blocks
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


# Sides that stay even at each of the five scales: pytorch-msssim pads odd ones with zeros.
@pytest.mark.parametrize("name", ["astronaut, noisy", "astronaut, darker", "astronaut, mirrored"])
def test_ms_ssim_is_that_of_another_library(all_pairs, name):
    import pytorch_msssim

    x, y = (as_images(image) for image in all_pairs[name])
    wanted = float(pytorch_msssim.ms_ssim(x, y, data_range=1.0))
    assert float(ms_ssim(x, y)) == pytest.approx(wanted, abs=1e-3)
    assert float(ssim(x, y)) == pytest.approx(
        float(pytorch_msssim.ssim(x, y, data_range=1.0)), abs=1e-3
    )


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


def test_8_bit_tensors_are_read_as_such_by_every_metric(gallery):
    x, y = (torch.from_numpy(np.rint(i * 255).astype(np.uint8)) for i in (gallery, gallery[::-1]))
    for metric in (psnr, ssim, ssim_downsampled, ms_ssim, mae, max_abs):
        wanted = metric(as_images(x), as_images(y)).tolist()
        found = metric(x.permute(0, 3, 1, 2), y.permute(0, 3, 1, 2)).tolist()
        assert found == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(ImageInputError, match="of type int64"):
        psnr(x.permute(0, 3, 1, 2).long(), y.permute(0, 3, 1, 2).long())


@pytest.mark.parametrize("size", [(64, 64), (200, 200), (380, 381), (13, 70_000)])
def test_blocks_of_every_kind_give_the_same(size):
    """Several whole images, whole channels, or rows of one; scikit-image knows no blocks."""
    random = np.random.default_rng(0)
    x = random.random((2, *size, 3))
    y = np.clip(x + random.normal(0, 0.1, x.shape), 0, 1)
    a, b = as_images(x), as_images(y)
    assert ssim(a, b).tolist() == pytest.approx([*map(oracle_ssim, x, y)], abs=1e-6)
    assert mae(a, b).tolist() == pytest.approx([*np.abs(x - y).mean(axis=(1, 2, 3))], rel=1e-12)
    assert max_abs(a, b).tolist() == [*np.abs(x - y).max(axis=(1, 2, 3))]
    seen = torch.zeros_like(a)
    for images, channels, block, _ in blocks(a, b):
        assert block.numel() <= max(CPU_ELEMENTS, size[1])
        seen[images, channels] += block.shape[-2] / size[0]
    assert torch.allclose(seen, torch.ones_like(seen))


def test_ssim_of_nearly_flat_bright_images_survives_float32():
    """Local variances of 1e-6 beside a mean square of 0.8: the trap of E[x²] - E[x]²."""
    random = np.random.default_rng(0)
    x = 0.9 + random.normal(0, 1e-3, (100, 100, 3)).astype(np.float32)
    y = 0.9 + random.normal(0, 1e-3, (100, 100, 3)).astype(np.float32)
    wanted = oracle_ssim(x.astype(np.float64), y.astype(np.float64))
    assert float(ssim(as_images(x), as_images(y))) == pytest.approx(wanted, abs=1e-6)


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

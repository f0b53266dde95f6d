"""The metrics run where the images are: on a GPU that is simulated, which refuses mixed devices."""

import numpy as np
import pytest
import torch

from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.similarity import compare_images, ssim_downsampled
from pytest_diffspeed.similarity.blocks import blocks

PROMPTS = ["cat", "dog", "owl", "fox", "eel", "bee", "ant", "cow"]


@pytest.fixture
def gpu():
    with SimulatedGpu() as simulated:
        yield simulated


@pytest.fixture
def noisy(gallery):
    random = np.random.default_rng(2)
    return np.clip(gallery + random.normal(0, 2e-3, gallery.shape), 0, 1).astype(np.float32)


def test_images_on_a_gpu_score_as_on_the_cpu(gpu, gallery, noisy):
    x, y = torch.from_numpy(gallery), torch.from_numpy(noisy)
    wanted = compare_images(x, y, preset="lossless", prompts=PROMPTS)
    on_gpu = x.to(gpu.device)
    # The candidate's images may be elsewhere; they come to the baseline's.
    for candidate in (y.to(gpu.device), y):
        report = compare_images(on_gpu, candidate, preset="lossless", prompts=PROMPTS)
        assert (report.verdict, report.order) == (wanted.verdict, wanted.order)
        for name, figures in wanted.images.items():
            assert report.images[name] == pytest.approx(figures, rel=1e-5), name


def test_a_gpu_gets_large_blocks_and_stays_busy(gpu):
    x = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    on_gpu = x.to(gpu.device)
    assert len(list(blocks(on_gpu, on_gpu))) == 1
    assert len(list(blocks(x, x))) == 2
    with gpu.record() as log:
        figures = ssim_downsampled(on_gpu, on_gpu * 0.99)
    assert figures.device == on_gpu.device
    assert [sync.op for sync in log.syncs] == []

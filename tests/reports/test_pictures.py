"""Pictures of what the arms drew, read back from the files."""

import numpy as np
import pytest
from PIL import Image

from pytest_diffspeed.gates.pictures import AMPLIFY, Picture, save_comparison, save_gallery

GREY = np.full((64, 64, 3), 0.5, np.float32)


def panels(path, sides=(64, 64, 64)):
    """The parts of the strip, one pixel for each of the image's."""
    with Image.open(path) as picture:
        strip = np.asarray(picture)[::3, ::3] / 255.0  # 64 pixels are shown as 192
    return np.split(strip, np.cumsum(sides)[:-1], axis=1)


def test_baseline_optimized_and_amplified_difference(tmp_path):
    other = GREY.copy()
    other[10:20, 30:40, 0] += 0.05
    baseline, optimized, difference = panels(save_comparison(tmp_path / "a.png", GREY, other))
    assert baseline == pytest.approx(GREY, abs=0.003)
    assert optimized == pytest.approx(other, abs=0.003)
    assert difference[10:20, 30:40, 0] == pytest.approx(0.05 * AMPLIFY, abs=0.003)
    assert difference[..., 1:].max() == difference[:10].max() == 0.0


def test_what_is_not_finite_is_magenta_and_not_black(tmp_path):
    broken = GREY.copy()
    broken[:5, :, 1], broken[5:10] = np.nan, np.inf
    _, optimized, _ = panels(save_comparison(tmp_path / "a.png", GREY, broken))
    assert (optimized[:10] == [1.0, 0.0, 1.0]).all()
    assert optimized[10:] == pytest.approx(GREY[10:], abs=0.003)


def test_other_sizes_are_shown_beside_each_other(tmp_path):
    other = np.zeros((32, 48, 3), np.float32)
    baseline, optimized = panels(save_comparison(tmp_path / "a.png", GREY, other), (64, 48))
    assert baseline == pytest.approx(GREY, abs=0.003)
    assert optimized[:32].max() == 0.0
    assert optimized[32:].min() > 0.4


def test_a_gallery_shows_this_run_and_nothing_else(tmp_path):
    grey = GREY.transpose(2, 0, 1)
    pictures = [Picture(name, grey, grey) for name in ("worst", "better", "best")]
    save_gallery(tmp_path, pictures)
    paths = save_gallery(tmp_path, pictures[:2])
    assert [path.name for path in paths] == ["01-worst.png", "02-better.png"]
    assert sorted(tmp_path.glob("*.png")) == paths

"""Pictures of videos and sounds, read back from their pixels."""

import numpy as np
import pytest
from PIL import Image

from pytest_diffspeed.gates.pictures import Picture, save_gallery
from pytest_diffspeed.gates.spectrograms import PANEL, levels, spectrograms
from pytest_diffspeed.gates.strips import columns_of, strips

GREY = np.full((12, 3, 40, 60), 0.5, np.float32)
RATE = 8000


def tone(pitch, seconds=1.0):
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(RATE * seconds)) / RATE))[None]


@pytest.mark.parametrize(
    ("frames", "worst", "shown"),
    [
        (3, 1, [0, 1, 2]),
        (8, 3, list(range(8))),
        (16, 0, [0, 2, 4, 6, 9, 11, 13, 15]),
        (16, 5, [0, 2, 5, 6, 9, 11, 13, 15]),
        (16, 14, [0, 2, 4, 6, 9, 11, 14, 15]),
        (1, 0, [0]),
    ],
)
def test_the_first_the_last_and_the_worst_frame_are_shown(frames, worst, shown):
    assert columns_of(frames, worst) == shown


def test_rows_are_baseline_optimized_and_difference_and_the_worst_frame_is_framed():
    other = GREY.copy()
    other[5] += 0.05
    picture = np.asarray(strips(GREY, other, worst=5)).astype(int)
    red = (picture[..., 0] > 190) & (picture[..., 1] < 60) & (picture[..., 2] < 60)
    columns = np.flatnonzero(red.sum(axis=0) > 100)
    left, right = columns.min(), columns.max()
    assert 110 < right - left < 140  # one frame is framed, from top to bottom
    inside = picture[18:, (left + right) // 2, 0]
    assert sorted(set(inside) - set(range(190, 256))) == [102, 128, 140]  # 0.05 × 8 is 102
    beside = picture[18:, left - 60, 0]
    assert 0 in beside and 102 not in beside


def test_videos_of_other_sizes_stand_above_each_other_without_a_difference():
    alone = strips(GREY, GREY[:, :, :20], worst=0)
    assert alone.height < strips(GREY, GREY, worst=0).height


def test_broken_frames_are_magenta_in_the_difference_too():
    other = GREY.copy()
    other[:, :, :, :] = np.nan
    picture = np.asarray(strips(GREY, other, worst=0))
    magenta = (picture == [255, 0, 255]).all(axis=2)
    assert magenta.any(axis=1).sum() > 1.9 * (picture.shape[0] - 18) / 3


@pytest.mark.parametrize("pitch", [500, 2000])
def test_a_tone_is_a_line_at_its_frequency(pitch):
    found = levels(tone(pitch))
    loudest = found[:, found.shape[1] // 2].argmax() / (len(found) - 1) * RATE / 2
    assert loudest == pytest.approx(pitch, abs=RATE / 1024)
    picture = np.asarray(spectrograms(tone(pitch), tone(pitch), RATE)).astype(int).sum(axis=2)
    row = picture[18 : 18 + PANEL[1], PANEL[0] // 2].argmax()
    assert (1 - row / PANEL[1]) * RATE / 2 == pytest.approx(pitch, abs=60)


def test_a_gap_is_seen_in_the_difference_and_what_is_not_finite_is_magenta():
    whole, gap, broken = tone(900), tone(900), tone(900)
    gap[:, 3000:5000] = 0.0
    broken[:, 3000:5000] = np.nan
    width = PANEL[0] + 8
    middle = slice(2 * width + 150, 2 * width + 220)
    same, seen = (
        np.asarray(spectrograms(whole, other, RATE))[18:-18, middle].mean()
        for other in (whole, gap)
    )
    assert same < 5 < seen
    panel = np.asarray(spectrograms(whole, broken, RATE))[18:-18, width + 150 : width + 220]
    assert (panel == [255, 0, 255]).all()


@pytest.mark.parametrize("samples", [16, 100, 700])
def test_short_sounds_have_a_picture_too(samples):
    short = np.random.default_rng(0).normal(0, 0.1, (2, samples))
    assert spectrograms(short, short, None).size == (3 * PANEL[0] + 16, PANEL[1] + 36)


def test_each_medium_gets_its_picture(tmp_path):
    sound = tone(500)
    paths = save_gallery(
        tmp_path,
        [
            Picture("image", GREY[0], GREY[0]),
            Picture("video", GREY, GREY, worst_frame=3),
            Picture("sound", sound, sound, sample_rate_hz=RATE),
        ],
    )
    assert [path.name for path in paths] == ["01-image.png", "02-video.png", "03-sound.png"]
    for path in paths:
        with Image.open(path) as picture:
            picture.verify()

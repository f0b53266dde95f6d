"""Limits proposed from what a technique scored, and the file that keeps them."""

import json

import numpy as np
import pytest

from pytest_diffspeed.common.errors import UsageError
from pytest_diffspeed.gates.image_limits_file import FORMAT, NAME, limits_for, store
from pytest_diffspeed.similarity import PRESETS, compare_images
from pytest_diffspeed.similarity.calibration import CannotCalibrateError, propose_limits


def noisy(images, sigma):
    random = np.random.default_rng(3)
    return np.clip(images + random.normal(0, sigma, images.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.0, 1e-4, 3e-3, 1e-2])
def test_what_was_measured_passes_and_twice_the_error_fails(gallery, sigma):
    limits = propose_limits(compare_images(gallery, noisy(gallery, sigma)))
    assert compare_images(gallery, noisy(gallery, sigma), **limits).verdict == "PASS"
    worse = noisy(gallery, max(2 * sigma, 4e-3))
    report = compare_images(gallery, worse, **limits)
    assert report.verdict == "FAIL"
    assert {miss.limit for miss in report.misses} >= {"psnr_mean", "psnr_worst"}


def test_the_margin_is_on_the_error(gallery):
    report = compare_images(gallery, noisy(gallery, 5e-3))
    limits = propose_limits(report, margin=2.0)
    psnr, ratio = report.metrics["psnr"], report.metrics["other_image_ratio"]
    assert limits["psnr_mean"] == pytest.approx(psnr[0] - 6.02, abs=0.1)
    assert limits["psnr_worst"] == pytest.approx(psnr[1] - 6.02, abs=0.1)
    assert limits["other_image_ratio_mean"] == pytest.approx(2 * ratio[0], abs=1e-4)
    assert limits["rank1_mean"] == limits["rank1_worst"] == 1.0


def test_no_limit_is_stricter_than_the_floor(gallery):
    report = compare_images(gallery, noisy(gallery, 1e-3))
    limits = propose_limits(report, floor={"psnr": (48.0, 45.0)}, margin=1.0)
    assert limits["psnr_mean"] == pytest.approx(48.0, abs=0.1)
    assert limits["psnr_worst"] == pytest.approx(45.0, abs=0.1)


def test_broken_or_far_images_get_no_limits(gallery):
    with pytest.raises(CannotCalibrateError, match=r"no limits for broken outputs: .* is black"):
        propose_limits(compare_images(gallery, gallery * 0))
    with pytest.raises(CannotCalibrateError, match="hardly its own"):
        propose_limits(compare_images(gallery, noisy(gallery, 0.5)))
    with pytest.raises(ValueError, match="margin must be at least 1"):
        propose_limits(compare_images(gallery, gallery), margin=0.5)


def test_the_file_keeps_entries_apart(tmp_path):
    for device, stack, bound in (("A", "bf16", 30.0), ("A", "compile", 60.0), ("B", "bf16", 20.0)):
        store(tmp_path, device, "demo", stack, {"limits": {"psnr_mean": bound}})
    store(tmp_path, "A", "demo", "bf16", {"limits": {"psnr_mean": 31.0}})
    assert limits_for(tmp_path, "A", "demo", "bf16") == {"psnr_mean": 31.0}
    assert limits_for(tmp_path, "A", "demo", "compile") == {"psnr_mean": 60.0}
    assert limits_for(tmp_path, "B", "demo", "bf16") == {"psnr_mean": 20.0}
    assert len((tmp_path / NAME).read_text().splitlines()) < 40


@pytest.mark.parametrize(("device", "stack"), [("B", "bf16"), ("A", "compile")])
def test_a_missing_entry_says_the_command(tmp_path, device, stack):
    store(tmp_path, "A", "demo", "bf16", {"limits": {"psnr_mean": 31.0}})
    command = f"diffspeed calibrate --pipeline=demo --stack={stack}"
    with pytest.raises(UsageError, match=command):
        limits_for(tmp_path, device, "demo", stack)


def test_limits_hold_for_the_steps_that_they_were_calibrated_with(tmp_path):
    store(tmp_path, "A", "demo", "bf16", {"limits": {"psnr_mean": 31.0}, "steps": 20})
    assert limits_for(tmp_path, "A", "demo", "bf16", steps=20) == {"psnr_mean": 31.0}
    with pytest.raises(
        UsageError, match=r"with 20 steps, and images are drawn with 4 .* --stack=bf16 --steps=4`"
    ):
        limits_for(tmp_path, "A", "demo", "bf16", steps=4, options=["--steps=4"])


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        {"format": "another/1"},
        {"format": FORMAT},
        {"format": FORMAT, "devices": {"A": 3}},
        *(
            {"format": FORMAT, "devices": {"A": {"demo": {"bf16": entry}}}}
            for entry in ({}, 3, {"limits": {}}, {"limits": {"psnr_mean": None}})
        ),
    ],
)
def test_a_broken_file_is_an_error(tmp_path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UsageError, match=NAME):
        limits_for(tmp_path, "A", "demo", "bf16")


def test_limits_of_a_preset_survive_the_file(tmp_path):
    store(tmp_path, "A", "demo", "bf16", {"limits": dict(PRESETS["int8"])})
    assert limits_for(tmp_path, "A", "demo", "bf16") == PRESETS["int8"]
    assert json.loads((tmp_path / NAME).read_text())["format"] == FORMAT

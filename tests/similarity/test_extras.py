"""LPIPS and FLIP: real where they are installed, said loudly where they are not or fail."""

import builtins
import sys
import types

import pytest
import torch

from pytest_diffspeed.similarity import SkippedMetricWarning, as_images, compare_images
from pytest_diffspeed.similarity.extras import ExtraUnavailableError, extra


def pairs(baseline, candidate):
    return zip(baseline, candidate, strict=True)


@pytest.fixture
def absent(monkeypatch):
    """As on a machine without either."""
    real = builtins.__import__

    def importer(name, *args, **kwargs):
        if name.partition(".")[0] in ("lpips", "flip_evaluator"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importer)


@pytest.mark.parametrize("name", ["lpips", "flip"])
def test_absent_is_skipped_loudly_and_says_the_command(gallery, absent, name):
    with pytest.warns(SkippedMetricWarning, match=rf"NOT CHECKED: {name}_mean, .*pip install"):
        report = compare_images(gallery, gallery, preset="exact", **{f"{name}_mean": 0.1})
    assert report.verdict == "PASS"
    assert f"NOT CHECKED: {name}_mean" in report.reason
    assert list(report.skipped) == [f"{name}_mean"]
    assert name in report.notes[-1]


def test_nothing_but_an_absent_metric_is_no_pass(gallery, absent):
    with pytest.warns(SkippedMetricWarning):
        assert compare_images(gallery, gallery, flip_mean=0.1).verdict == "INCONCLUSIVE"


def test_not_asked_for_is_not_loaded(gallery, absent):
    assert compare_images(gallery, gallery, preset="exact").skipped == {}


def test_an_exit_of_flip_is_an_error_of_this_metric_only(gallery, monkeypatch):
    def evaluate(*_, **__):
        print("Invalid tonemapper.\nExiting.")
        sys.exit(1)

    fake = types.ModuleType("flip_evaluator")
    fake.evaluate = evaluate
    monkeypatch.setitem(sys.modules, "flip_evaluator", fake)
    images = as_images(gallery)
    with pytest.raises(ExtraUnavailableError, match=r"SystemExit: 1 \(Invalid tonemapper.\)"):
        extra("flip", pairs(images, images))


def test_flip_orders_images_as_the_eye_does(gallery):
    pytest.importorskip("flip_evaluator", reason="the extra [flip] is not installed")
    images = as_images(gallery)
    slightly, strongly = (images * factor for factor in (0.98, 0.6))
    assert extra("flip", pairs(images, images)) == [0.0] * 8
    near, far = extra("flip", pairs(images, slightly)), extra("flip", pairs(images, strongly))
    assert all(0 < a < b for a, b in zip(near, far, strict=True))
    grey = images[:, :1]
    coloured = grey.expand(-1, 3, -1, -1)
    assert extra("flip", pairs(grey, grey * 0.9)) == pytest.approx(
        extra("flip", pairs(coloured, coloured * 0.9))
    )
    report = compare_images(gallery, gallery * 0.6, flip_worst=0.01)
    assert report.verdict == "FAIL"
    assert report.metrics["flip"][1] == max(far)


def test_the_real_flip_cannot_end_the_run(monkeypatch):
    flip = pytest.importorskip("flip_evaluator", reason="the extra [flip] is not installed")
    real = flip.evaluate
    monkeypatch.setattr(
        flip, "evaluate", lambda *args, **words: real(*args, parameters={"ppd": -1}, **words)
    )
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(ExtraUnavailableError, match=r"SystemExit: 1 .The number of pixels per"):
        extra("flip", pairs(images, images))


def test_a_torchvision_that_is_absent_or_does_not_fit_is_named(gallery, monkeypatch):
    images = as_images(gallery)
    fake = types.ModuleType("lpips")
    monkeypatch.setitem(sys.modules, "lpips", fake)
    for error in (
        ModuleNotFoundError("No module named 'torchvision'", name="torchvision"),
        RuntimeError("operator torchvision::nms does not exist"),
    ):

        def raises(error=error, **_):
            raise error

        fake.LPIPS = raises
        with pytest.raises(ExtraUnavailableError, match="torchvision that fits torch"):
            extra("lpips", pairs(images, images))


def test_the_real_lpips_with_a_random_backbone(gallery, tmp_path, monkeypatch):
    """Its own backbone comes from the network; what we ask of the library is the same with another
    one. Its layers' weights are real: they lie in the package.
    """
    pytest.importorskip("lpips", reason="the extra [lpips] is not installed")
    torchvision = pytest.importorskip("torchvision", reason="no torchvision that fits torch")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    backbone = torchvision.models.alexnet().state_dict()
    torch.save(backbone, folder / "alexnet-owt-7be5be79.pth")
    images = as_images(gallery)
    near = extra("lpips", pairs(images, images * 0.98))
    far = extra("lpips", pairs(images, images * 0.6))
    assert extra("lpips", pairs(images, images)) == [0.0] * 8
    assert all(0 < a < b for a, b in zip(near, far, strict=True))
    report = compare_images(gallery, gallery * 0.6, lpips_worst=1e-9)
    assert report.verdict == "FAIL"
    assert report.metrics["lpips"][1] == pytest.approx(max(far))


def test_an_lpips_that_does_not_load_is_said(gallery, monkeypatch):
    """LPIPS needs torchvision and a backbone from the network: often enough it is not there."""
    fake = types.ModuleType("lpips")

    def no_network(**_):
        raise OSError("cannot download alexnet")

    fake.LPIPS = no_network
    monkeypatch.setitem(sys.modules, "lpips", fake)
    with pytest.warns(SkippedMetricWarning, match="lpips failed: OSError: cannot download alexnet"):
        report = compare_images(gallery, gallery, preset="exact", lpips_worst=0.1)
    assert report.verdict == "PASS"

"""The benchmark of image metrics: the values that it compares, and the memory that it bounds.

Speed is its business alone: no test asserts how fast this machine is.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "similarity_speed.py"


@pytest.fixture(scope="module")
def benchmark_of_metrics():
    spec = importlib.util.spec_from_file_location("similarity_speed", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


SMALL = ["--images=2", "--side=192", "--rounds=1", "--memory-images=0"]


def test_ours_and_the_others_stand_in_one_table(benchmark_of_metrics, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_of_metrics, "LEAST_SPEEDUP", 0.0)
    assert benchmark_of_metrics.main(SMALL) == 0
    out = capsys.readouterr().out
    for name in ("SSIM, ours", "SSIM, scikit-image", "SSIM, pytorch-msssim", "MS-SSIM, ours"):
        assert f"| {name} |" in out


def test_values_that_differ_or_too_little_speed_are_an_error(
    benchmark_of_metrics, capsys, monkeypatch
):
    monkeypatch.setattr(benchmark_of_metrics, "LEAST_SPEEDUP", 1e9)
    monkeypatch.setattr(
        benchmark_of_metrics, "ssim", lambda a, b: benchmark_of_metrics.ms_ssim(a, b)
    )
    assert benchmark_of_metrics.main(SMALL) == 1
    out = capsys.readouterr().out
    assert "NOT AS PROMISED: SSIM differs by" in out
    assert "NOT AS PROMISED: SSIM is" in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read from `resource`")
def test_64_large_images_take_less_than_2_gib(benchmark_of_metrics):
    """The images themselves, in float32, take 1.5 of these; what torch takes does not count."""
    found = benchmark_of_metrics.peak_memory(64, 1024, "float32")
    assert found["images"] == 1.5
    assert found["peak"] - found["before"] < 2.0

"""Each gate on a pipeline that deserves a PASS."""

import os

import pytest

COUNTED = os.environ.get("GPU_CHECK_COUNTED", "random:sdxl-tiny")
"""The planted fault of the part: another pipeline here."""


@pytest.mark.diffspeed("channels_last", pipeline=COUNTED)
@pytest.mark.no_graph_breaks()
@pytest.mark.no_gpu_syncs()
def test_counted(optimized_pipeline): ...


@pytest.mark.diffspeed("bf16")
@pytest.mark.max_memory(0.9, over="kept_tensor")
def test_memory(optimized_pipeline): ...


@pytest.mark.diffspeed("channels_last")
@pytest.mark.image_similarity("lossless")
def test_images(optimized_pipeline): ...


@pytest.mark.diffspeed("bf16")
@pytest.mark.min_speedup(1.5, over="device_sleep")
@pytest.mark.max_slowdown(75)
def test_speed(optimized_pipeline): ...

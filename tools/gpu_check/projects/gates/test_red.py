"""Each gate on a pipeline with its own fault."""

import pytest


@pytest.mark.diffspeed("channels_last", pipeline="planted_faults:breaking")
@pytest.mark.no_graph_breaks()
def test_break(optimized_pipeline): ...


@pytest.mark.diffspeed("channels_last", pipeline="planted_faults:syncing")
@pytest.mark.no_gpu_syncs()
def test_sync(optimized_pipeline): ...


@pytest.mark.diffspeed("compile_eager", pipeline="planted_faults:recompiling")
@pytest.mark.no_recompiles(sizes=[(48, 64)])
def test_recompile(optimized_pipeline): ...


@pytest.mark.diffspeed("compile_eager", pipeline="random:sdxl-tiny")
@pytest.mark.max_compile_time(0.001)
def test_compile_time(optimized_pipeline): ...


@pytest.mark.diffspeed("kept_tensor")
@pytest.mark.max_memory(1.05)
def test_memory(optimized_pipeline): ...


@pytest.mark.diffspeed("not_numbers")
@pytest.mark.image_similarity("lossless")
def test_not_numbers(optimized_pipeline): ...


@pytest.mark.diffspeed("other_images")
@pytest.mark.image_similarity("int4")
def test_other_images(optimized_pipeline): ...


@pytest.mark.diffspeed("device_sleep")
@pytest.mark.min_speedup(0.8)
@pytest.mark.max_slowdown(25)
def test_device_sleep(optimized_pipeline): ...


@pytest.mark.diffspeed("host_sleep")
@pytest.mark.min_speedup(0.8)
@pytest.mark.max_slowdown(25)
def test_host_sleep(optimized_pipeline): ...

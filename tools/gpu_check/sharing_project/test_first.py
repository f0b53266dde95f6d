import pytest


@pytest.mark.diffspeed("channels_last", pipeline="shared_pipeline:make")
@pytest.mark.no_gpu_syncs()
@pytest.mark.max_memory(1.5)
@pytest.mark.min_speedup(0.5)
def test_first(optimized_pipeline): ...

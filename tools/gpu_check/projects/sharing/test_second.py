import pytest


@pytest.mark.diffspeed("channels_last", pipeline="shared_pipeline:make")
@pytest.mark.no_gpu_syncs()
@pytest.mark.max_memory(20)
@pytest.mark.min_speedup(0.1)
def test_second(optimized_pipeline): ...

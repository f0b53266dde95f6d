import pytest


@pytest.mark.diffspeed("fp32", "bf16")
@pytest.mark.no_gpu_syncs()
@pytest.mark.no_gpu_syncs(scope="call")
def test_syncs(optimized_pipeline): ...

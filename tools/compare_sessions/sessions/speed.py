import pytest


@pytest.mark.diffspeed("bf16", "bf16+channels_last")
@pytest.mark.min_speedup(1.5)
@pytest.mark.max_slowdown(5, over="previous")
def test_ratio(optimized_pipeline): ...

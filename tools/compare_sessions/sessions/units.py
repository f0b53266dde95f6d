import pytest


@pytest.mark.diffspeed("bf16")
@pytest.mark.min_speedup(1.5, alpha=0.1)
@pytest.mark.max_slowdown(5, method="bet")
def test_ratio(optimized_pipeline): ...

import pytest


@pytest.mark.diffspeed("bf16", "channels_last")
@pytest.mark.max_memory(0.9)
def test_memory(optimized_pipeline): ...

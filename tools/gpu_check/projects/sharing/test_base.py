import pytest


@pytest.mark.diffspeed("channels_last", pipeline="shared_pipeline:make")
@pytest.mark.max_slowdown(50, over="base")
def test_speed(optimized_pipeline): ...

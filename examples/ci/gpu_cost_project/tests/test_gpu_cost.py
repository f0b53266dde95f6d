"""What a denoising step of this project asks of an A100, on a runner that has none."""

import pytest


@pytest.mark.diffspeed("bf16+channels_last", pipeline="pipelines:small")
@pytest.mark.gpu_cost()
def test_step(optimized_pipeline): ...

"""The demo suite: what each technique does to the pipeline that this package carries.

pytest --diffspeed examples/demo
"""

import pytest


@pytest.mark.diffspeed("bf16", "channels_last", "compile")
@pytest.mark.min_speedup(1.1, stack="compile")
@pytest.mark.max_slowdown(25, stack="channels_last")
@pytest.mark.max_slowdown(25, stack="bf16", device="cuda")
@pytest.mark.max_slowdown(900, stack="bf16", device="cpu")  # most CPUs emulate bfloat16
def test_technique(optimized_pipeline, diffspeed):
    image = diffspeed.run(optimized_pipeline)
    assert image.shape == (1, 3, 64, 64)

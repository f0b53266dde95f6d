"""The gates on compiled code, with inductor; the pipeline is small where there is no GPU."""

import os

import pytest

SOURCE = os.environ.get("GPU_CHECK_COMPILED", "demo")


@pytest.mark.diffspeed("compile", pipeline=SOURCE)
@pytest.mark.no_recompiles(prompts=["an owl that is somewhat longer than the first prompt"])
@pytest.mark.max_compile_time(900)
def test_compiled(optimized_pipeline): ...

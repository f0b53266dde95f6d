"""The gates on compiled code, with inductor; a small pipeline, since a cold start counts here."""

import pytest


@pytest.mark.diffspeed("compile_quick", pipeline="random:sdxl-tiny")
@pytest.mark.no_recompiles(prompts=["an owl that is somewhat longer than the first prompt"])
@pytest.mark.max_compile_time(3600)
def test_compiled(optimized_pipeline): ...

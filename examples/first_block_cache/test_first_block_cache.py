"""Run it with ``pytest examples/first_block_cache --diffspeed``."""

import pytest


@pytest.mark.diffspeed("first_block_cache", pipeline="random:flux-tiny")
@pytest.mark.min_speedup(1.05)
def test_caching_is_faster(optimized_pipeline):
    counter = optimized_pipeline.transformer.first_block_counter
    assert 0 < counter.ran < counter.reached

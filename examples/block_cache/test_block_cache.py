"""Run it with ``pytest examples/block_cache --diffspeed``."""

import pytest


# With random weights a residual changes by more than the usual 0.2: nothing would be skipped.
@pytest.mark.diffspeed("block_cache(threshold=0.9)", pipeline="random:flux-tiny")
@pytest.mark.min_speedup(1.05)
def test_caching_is_faster(optimized_pipeline):
    counter = optimized_pipeline.transformer.first_block_counter
    assert 0 < counter.ran < counter.reached

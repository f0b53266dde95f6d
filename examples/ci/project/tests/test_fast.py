"""What this project promises of its fast pipeline."""

import pytest


@pytest.mark.diffspeed("channels_last", pipeline="pipelines:emoji")
@pytest.mark.no_graph_breaks()
@pytest.mark.no_gpu_syncs()
@pytest.mark.image_similarity("lossless")
@pytest.mark.max_slowdown(10, over="base")
def test_fast(optimized_pipeline): ...

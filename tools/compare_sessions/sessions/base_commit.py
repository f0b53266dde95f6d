import pytest


@pytest.mark.diffspeed("bf16")
@pytest.mark.no_gpu_syncs()
@pytest.mark.max_memory(2.0)
@pytest.mark.no_graph_breaks()
def test_against_the_base(optimized_pipeline): ...

import pytest


@pytest.mark.diffspeed("compile")
@pytest.mark.no_recompiles(batch_sizes=[2], max_recompiles=3)
@pytest.mark.no_graph_breaks()
@pytest.mark.max_compile_time(600)
def test_compiled(optimized_pipeline): ...

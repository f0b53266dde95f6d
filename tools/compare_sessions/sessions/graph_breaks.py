import pytest


@pytest.mark.diffspeed("fp32")
@pytest.mark.no_graph_breaks()
def test_one_graph(optimized_pipeline): ...


@pytest.mark.diffspeed("fp32")
@pytest.mark.no_graph_breaks(components=["text_encoder"], max_breaks=1)
def test_a_chosen_component(optimized_pipeline): ...

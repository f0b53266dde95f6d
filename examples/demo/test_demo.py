"""The demo suite: what two techniques do to the pipeline that this package carries.

One test, four axes: speed, structure (graph breaks), host syncs on the simulated GPU, and images.

    pytest --diffspeed examples/demo

Other stacks can be named on the command line, for example --diffspeed-techniques=bf16 (on a CPU
without bfloat16 units that is many times slower, and the gates say so calmly).
"""

import pytest


@pytest.mark.diffspeed("channels_last")
@pytest.mark.max_slowdown(25)
@pytest.mark.no_gpu_syncs()
@pytest.mark.image_similarity("lossless")
def test_layout(optimized_pipeline, diffspeed):
    image = diffspeed.run(optimized_pipeline)
    assert image.shape == (1, 3, 64, 64)


@pytest.mark.diffspeed("compile")
@pytest.mark.min_speedup(1.1)
@pytest.mark.no_graph_breaks()
@pytest.mark.image_similarity("lossless")
def test_compilation(optimized_pipeline): ...

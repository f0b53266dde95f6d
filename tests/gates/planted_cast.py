"""A pipeline of a project, its test with ``gpu_cost``, and a line that a change brings."""

PIPES = """
from pytest_diffspeed.pipelines.sources import parse_source

def small():
    pipeline = parse_source("random:sdxl-tiny").build()
    block = pipeline.unet.mid_block
    forward = block.forward

    def through(hidden_states, *args, **kwargs):
        x = hidden_states
        return forward(x, *args, **kwargs)

    block.forward = through
    return pipeline
"""
TEST = """
import pytest

@pytest.mark.diffspeed("bf16", pipeline="pipes:small")
@pytest.mark.gpu_cost(over={over!r})
def test_cost(optimized_pipeline):
    pass
"""
PLANTED = "x = hidden_states.float().to(hidden_states.dtype)"


def place_of(pipes):
    return f"pipes.py:{pipes.read_text().splitlines().index(f'        {PLANTED}') + 1}"

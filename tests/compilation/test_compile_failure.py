"""A `fullgraph=True` arm that cannot compile is told by our report, not by dynamo's trace."""

import pytest
import torch

from pytest_diffspeed.common.errors import NotEffectiveError
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.compile_failure import explain_compile_failure
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.apply import apply_stack
from pytest_diffspeed.techniques.catalog import compile as compile_catalog


def refuses(graph, inputs):
    raise ValueError("the planted backend fails")


@pytest.fixture
def explained(libraries, monkeypatch, fresh_dynamo):
    source = parse_source("small_pipeline:build")
    pipeline = source.build()
    call = PipelineCall(pipeline, source.defaults(pipeline), "a fox")

    def explain(backend="eager"):
        def apply(self, pipe):
            pipe.unet.compile(fullgraph=True, backend=backend)
            pipe.vae.decode = torch.compile(pipe.vae.decode, fullgraph=True, backend=backend)

        monkeypatch.setattr(compile_catalog.Compile, "apply", apply)
        with pytest.raises(NotEffectiveError) as caught:
            apply_stack(pipeline, "compile", call=call)
        assert pipeline.unet._compiled_call_impl is None  # a stack that fails is taken back
        apply(None, pipeline)
        decode = pipeline.vae.decode
        text = explain_compile_failure(
            pipeline, lambda: call(pipeline, steps=2), caught.value.__cause__
        )
        assert pipeline.vae.decode is decode
        assert pipeline.unet._compiled_call_impl is not None
        return text

    explain.pipeline = pipeline
    return explain


def test_every_break_is_told_with_its_place_and_remedy(explained):
    unet, vae = explained.pipeline.unet, explained.pipeline.vae
    embed, decoder = unet.get_time_embed, vae.decoder.forward

    def first(*args, **kwargs):
        print("one")
        return embed(*args, **kwargs)

    def second(*args, **kwargs):
        print("two")
        return decoder(*args, **kwargs)

    unet.get_time_embed, vae.decoder.forward = first, second
    text = explained()
    assert "unet: 2 graphs, 1 break" in text
    assert "vae.decode: 2 graphs, 1 break" in text
    assert 'print("one")' in text
    assert 'print("two")' in text
    assert "test_compile_failure.py:" in text
    assert "remedy: take the output out" in text
    assert "Traceback" not in text


def test_a_failing_backend_is_told_as_that(explained):
    text = explained(backend=refuses)
    assert text.startswith("there is no graph break; the compiler itself failed with ValueError")
    assert "the planted backend fails" in text

"""Tiny pipelines: one with a UNet, one with a transformer, and their calls; and one that compiles
quickly, where how much is compiled is not the subject.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.catalog.compile import Compile
from pytest_diffspeed.techniques.undo import snapshot

sys.path.insert(0, str(Path(__file__).parent))  # for `two_experts`
SOURCES = {
    "unet": "random:sdxl-tiny",
    "transformer": "random:flux-tiny",
    "unet of few blocks": "tests.compilation.small_pipeline:attending",
    "transformer of few blocks": "tests.compilation.small_pipeline:flux",
}


def _pipeline_and_call(kind, steps=1):
    source = parse_source(SOURCES[kind])
    with third_party():
        built = source.build()
    defaults = replace(source.defaults(built), steps=steps)
    if kind == "transformer":  # of itself it draws 1024 × 1024
        defaults = replace(defaults, height=64, width=64)
    return built, PipelineCall(built, defaults, "a red apple")


@pytest.fixture(scope="session")
def tiny():
    """``pipeline, call = tiny("unet")``, or another of ``SOURCES``: a new one each time."""
    return _pipeline_and_call


@pytest.fixture(scope="session")
def small():
    """``pipeline, call = small("LTXPipeline")``: one of diffusers' classes, with its own inputs."""

    def build(name):
        source = parse_source(f"random:{name}")
        with third_party():
            built = source.build()
        return built, PipelineCall(built, replace(source.defaults(built), steps=2))

    return build


@pytest.fixture
def assert_incompatible(small):
    """``assert_incompatible("LTXPipeline", "fused_qkv", "why")``: and it is left as it was."""

    def check(name, stack, why):
        pipeline, call = small(name)
        before = snapshot(pipeline)
        with pytest.raises(IncompatibleError, match=why):
            apply_stack(pipeline, stack, call=call)
        assert snapshot(pipeline) == before

    return check


@pytest.fixture
def _unet(tiny):
    return tiny("unet")


@pytest.fixture
def pipeline(_unet):
    return _unet[0]


@pytest.fixture
def call(_unet):
    return _unet[1]


@pytest.fixture
def fresh_dynamo():
    """Dynamo remembers code that it was told to skip: let no later test inherit that."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def without_inductor(fresh_dynamo, monkeypatch):
    """Compile with dynamo alone: what is compiled is the subject, not the code that comes out."""
    monkeypatch.setattr(Compile, "backend", "eager")


@pytest.fixture
def compilations(monkeypatch, fresh_dynamo):
    """Stand at the door of inductor: what it is told in each compilation, and no code made."""
    told = []

    def compile_fx(model, inputs, *, config_patches=None, **_):
        told.append(config_patches)

        def graph(*args):
            with torch.profiler.record_function("## Call CompiledFxGraph stand-in ##"):
                return model.forward(*args)

        return graph

    with third_party():
        import torch._inductor.compile_fx
    monkeypatch.setattr(torch._inductor.compile_fx, "compile_fx", compile_fx)
    return told

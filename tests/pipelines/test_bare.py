"""A source that did something to its pipeline already is no baseline, and is told so."""

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from pytest_diffspeed.common.errors import SourceError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.bare import why_not_bare
from pytest_diffspeed.pipelines.sources import PipelineSource, parse_source

CPU = torch.device("cpu")


@pytest.fixture
def pipeline():
    with third_party():
        return parse_source("random:sdxl-tiny").build()


def in_place(pipe):
    pipe.unet.compile(backend="eager")


def wrapped(pipe):
    pipe.unet = torch.compile(pipe.unet, backend="eager")


def blocks(pipe):
    for block in (*pipe.unet.down_blocks, *pipe.unet.up_blocks):
        block.compile(backend="eager")


def decode(pipe):
    pipe.vae.decode = torch.compile(pipe.vae.decode, backend="eager")


def step(pipe):
    pipe.scheduler.step = torch.compile(pipe.scheduler.step, backend="eager")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (in_place, "unet"),
        (wrapped, "unet"),
        (blocks, r"unet\.down_blocks\.0, unet\.down_blocks\.1, unet\.down_blocks\.2, and 3 more"),
        (decode, r"vae\.decode"),
        (step, r"scheduler\.step"),
    ],
)
def test_a_compiled_pipeline_is_no_baseline(pipeline, change, what):
    assert why_not_bare(pipeline) is None
    change(pipeline)
    expected = rf"^pipeline source 'here': it gave a pipeline that is compiled already \({what}\);"
    with pytest.raises(SourceError, match=expected):
        Here(pipeline).build()


def offloaded(pipe):
    from accelerate import cpu_offload

    cpu_offload(pipe.text_encoder, CPU)


def group_offloaded(pipe):
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(pipe.unet, CPU, CPU, "leaf_level")


def cast_by_layer(pipe):
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float32, compute_dtype=torch.float32)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (offloaded, r"text_encoder: accelerate's AlignDevicesHook on \d+ modules"),
        (group_offloaded, r"unet: diffusers' hook 'group_offloading' on \d+ modules"),
        (cast_by_layer, r"unet: diffusers' hook 'layerwise_casting' on \d+ modules"),
    ],
)
def test_a_hooked_pipeline_is_no_baseline(pipeline, change, what):
    change(pipeline)
    expected = rf"^pipeline source 'here': it gave a pipeline with hooks already \(.*{what}"
    with pytest.raises(SourceError, match=expected):
        Here(pipeline).build()


def test_a_models_own_forward_hooks_are_bare(pipeline):
    pipeline.unet.register_forward_pre_hook(lambda *args: None)
    assert why_not_bare(pipeline) is None


class Here(PipelineSource):
    name = "here"

    def __init__(self, pipeline: StableDiffusionXLPipeline):
        self.pipeline = pipeline

    def defaults(self, pipeline):
        raise NotImplementedError

    def _load(self, shared):
        return self.pipeline

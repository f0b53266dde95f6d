"""Each technique takes hold and proves it; broken on purpose, its proof fails."""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    MissingHardwareError,
    NotEffectiveError,
    UsageError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.catalog import compile as compile_catalog
from pytest_diffspeed.techniques.catalog import layout, precision
from pytest_diffspeed.techniques.precision_flags import ieee_fp32


def found(applied):
    return {proof.technique: proof.found for proof in applied.proofs}


def test_fp32_is_ieee_everywhere(pipeline, call):
    applied = apply_stack(pipeline, "fp32", call=call)
    assert "in torch.float32, IEEE flags read back" in found(applied)["fp32"]
    figures = applied.proofs[0].figures
    assert figures["cudnn.conv"] == figures["cuda.matmul"] == "ieee"
    assert figures["ops"] > 50


def test_the_first_call_ends_when_the_gpu_is_done(pipeline, call, monkeypatch):
    """A GPU's call returns before its work is done, and what ran before it may not be either."""
    order = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("waited"))

    def clock():
        order.append("clock")
        return float(len(order))

    def told(pipeline, **kwargs):
        if not kwargs:
            order.append("whole call")
        return call(pipeline, **kwargs)

    gpu = Device("cuda", 0, "a GPU", "cuda-0")
    apply_stack(pipeline, "fp32", call=told, device=gpu, clock=clock)
    assert order == ["waited", "clock", "whole call", "waited", "clock"]


def test_bf16_is_in_the_parameters_and_in_the_ops_that_ran(pipeline, call):
    applied = apply_stack(pipeline, "bf16", call=call)
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.bfloat16}
    assert applied.proofs[0].figures["dtype"] == "torch.bfloat16"


def test_bf16_undone_in_one_layer_is_noticed(pipeline, call, monkeypatch):
    original = precision.Bf16.apply

    def forgets_a_layer(self, pipe):
        original(self, pipe)
        pipe.vae.encoder.conv_in.to(torch.float32)  # text-to-image never runs it

    monkeypatch.setattr(precision.Bf16, "apply", forgets_a_layer)
    expected = r"every parameter in torch\.bfloat16, found \{'vae': \['torch\.float32'\]\}"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "bf16", call=call)


def test_bf16_weights_with_fp32_arithmetic_are_noticed(pipeline, call):
    """Parameters alone are no proof: this layer casts up before it computes."""
    layer = pipeline.unet.conv_out

    def in_fp32(sample):
        weight, bias = layer.weight.float(), layer.bias.float()
        return torch.nn.functional.conv2d(sample.float(), weight, bias, padding=1).to(sample.dtype)

    layer.forward = in_fp32
    with pytest.raises(NotEffectiveError, match=r"every matrix product .*'torch\.float32': 2"):
        apply_stack(pipeline, "bf16", call=call)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda q: q("a"), r"does not take that .*'steps'.*; write for example"),
        (lambda: None, r"does not take that .*; write for example"),
        ("a fox", r"call must be a function of the pipeline, not 'a fox'"),
    ],
)
def test_a_call_of_another_signature_is_refused_before_it_is_spent(call, said):
    """Without a pipeline: nothing may be done with it yet."""
    with pytest.raises(UsageError, match=said):
        apply_stack(None, "channels_last", call=call)


def test_channels_last_is_in_the_strides(pipeline, call):
    applied = apply_stack(pipeline, "channels_last", call=call)
    assert applied.proofs[0].figures["convolution_weights"] > 10
    weight = pipeline.unet.down_blocks[0].resnets[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_channels_last_that_was_not_applied_is_noticed(pipeline, call, monkeypatch):
    monkeypatch.setattr(layout.ChannelsLast, "apply", lambda self, pipe: None)
    with pytest.raises(NotEffectiveError, match="channels_last: expected channels-last strides"):
        apply_stack(pipeline, "channels_last", call=call)


def test_missing_hardware_is_said_before_anything_is_changed(pipeline, call, monkeypatch):
    monkeypatch.setattr(precision.Bf16, "missing_hardware", lambda self, device: "it has no bf16")
    with pytest.raises(MissingHardwareError, match=r"bf16 on .*: it has no bf16"):
        apply_stack(pipeline, "channels_last+bf16", call=call)
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}


def test_a_misfit_is_said_before_anything_is_changed(pipeline, call, monkeypatch):
    monkeypatch.setattr(
        compile_catalog.Compile, "incompatible", lambda self, pipe: "it is a generator"
    )
    with pytest.raises(
        IncompatibleError, match="compile is incompatible with StableDiffusionXLPipeline"
    ):
        apply_stack(pipeline, "bf16+compile", call=call)
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}


def test_a_pipeline_without_spatial_convolutions_cannot_be_channels_last():
    with third_party():
        flux = parse_source("random:flux-tiny").build()
    flux.vae = None
    misfit = layout.ChannelsLast().incompatible(flux)
    assert misfit == "neither its denoisers nor its VAE have a convolution with spatial extent"


def test_ieee_flags_are_put_back_as_they_were():
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = matmul.fp32_precision, convolution.fp32_precision
    with pytest.raises(KeyError), ieee_fp32():
        assert matmul.fp32_precision == convolution.fp32_precision == "ieee"
        raise KeyError
    assert (matmul.fp32_precision, convolution.fp32_precision) == before


def test_a_call_is_repeated_to_the_bit_and_shares_its_latents_across_dtypes(pipeline, call):
    with third_party():
        first, second = call(pipeline), call(pipeline)
        assert torch.equal(first, second)
        assert first.shape == (1, 3, 32, 32)
        pipeline.to(dtype=torch.bfloat16)
        latents = call.arguments(pipeline)["latents"]
    assert latents.dtype is torch.bfloat16
    assert torch.equal(latents, call.latents.to(torch.bfloat16))
    assert call.latents.dtype is torch.float32

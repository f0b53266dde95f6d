"""Channels-last convolutions, of images and of videos: what they got, in a call."""

import pytest
import torch
import two_experts

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import check_compatible, undo_stack
from pytest_diffspeed.techniques.catalog.layout import ChannelsLast
from pytest_diffspeed.techniques.observation import ConvolutionInputs
from pytest_diffspeed.techniques.observe import OpCounter
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.undo import snapshot


@pytest.mark.parametrize(
    ("rank", "memory_format"), [(4, torch.channels_last), (5, torch.channels_last_3d)]
)
def test_each_rank_in_its_own_format(rank, memory_format):
    pipeline = two_experts.build(rank)
    with third_party():
        image = two_experts.call(pipeline)
    before = snapshot(pipeline)
    (proof,) = apply_stack(pipeline, "channels_last", call=two_experts.call).proofs
    assert pipeline.transformer.conv_mid.weight.is_contiguous(memory_format=memory_format)
    assert pipeline.vae.decoder.conv_out.weight.is_contiguous(memory_format=torch.channels_last)
    assert proof.figures["convolution_inputs"]["vae"]["channels_last"] > 0
    with third_party():
        torch.testing.assert_close(two_experts.call(pipeline), image, rtol=0, atol=1e-4)
    undo_stack(pipeline, "channels_last")
    assert snapshot(pipeline) == before


def test_weights_alone_are_no_proof(pipeline, call):
    """Whose inputs come in another layout convert them in each call, or compute in that one."""
    handles = [
        module.register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
        for module in pipeline.unet.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    expected = "incompatible with .* none of the inputs of the unet's convolutions .* in the vae "
    with pytest.raises(IncompatibleError, match=expected):
        apply_stack(pipeline, "channels_last", call=call)
    for handle in handles:
        handle.remove()


def test_weights_in_other_strides_are_no_proof(pipeline, call, monkeypatch):
    monkeypatch.setattr(ChannelsLast, "apply", lambda self, pipe: None)
    with pytest.raises(NotEffectiveError, match=r"found other strides in \d+: unet\."):
        apply_stack(pipeline, "channels_last", call=call)


def test_a_vae_that_works_in_a_layout_of_its_own_is_incompatible(assert_incompatible):
    """Padding by concatenation, as in causal convolutions over frames, gives contiguous inputs."""
    why = r"inputs of the vae's convolutions \(\d+\) is"
    assert_incompatible("LTXPipeline", "channels_last", why)


def test_convolutions_over_samples_are_known_not_to_fit_before_a_call(small):
    pipeline, _ = small("DanceDiffusionPipeline")
    with pytest.raises(IncompatibleError, match="have a convolution with spatial extent"):
        check_compatible(parse_stack("channels_last"), pipeline, resolve_device("cpu"))


def test_a_weight_of_the_source_that_is_channels_last_already_stays_so(pipeline, call):
    weight = pipeline.unet.conv_in.weight
    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    apply_stack(pipeline, "channels_last", call=call)
    undo_stack(pipeline, "channels_last")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not pipeline.unet.conv_out.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "layer", "counted"),
    [
        ((1, 4, 8, 8), torch.nn.Conv2d(4, 4, 3), {"other": 1}),
        ((1, 4, 8, 8), torch.nn.Conv2d(4, 4, 1), {}),
        ((1, 4, 8, 8), torch.nn.Conv2d(4, 4, 2, stride=2), {"patches": 1}),
        ((1, 1, 8, 8), torch.nn.Conv2d(1, 4, 3), {}),
        ((1, 4, 2, 8, 8), torch.nn.Conv3d(4, 4, 3, padding=1), {"other": 1}),
        ((1, 4, 8), torch.nn.Conv1d(4, 4, 3), {}),
    ],
)
def test_layouts_of_inputs_are_told_apart(shape, layer, counted):
    ops = OpCounter()
    ops.inside.append(("denoiser", "", False))
    x = torch.ones(shape)
    with torch.no_grad(), ops:
        layer(x)
    assert ops.parts()["denoiser"].convolutions == ConvolutionInputs(**counted)
    if counted:
        wanted = torch.channels_last if x.dim() == 4 else torch.channels_last_3d
        with torch.no_grad(), ops:
            layer(x.contiguous(memory_format=wanted))
        assert ops.parts()["denoiser"].convolutions.channels_last == 1

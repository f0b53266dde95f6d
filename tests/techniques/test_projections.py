"""Fused projections: modules that ran, and fewer matrix products."""

import types

import pytest
import torch
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_processor import AttnProcessor2_0

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError, UnknownStackError
from pytest_diffspeed.techniques.catalog.projections import FusedQkv
from pytest_diffspeed.techniques.observe import OpCounter
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.undo import snapshot


@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_modules_are_fused_and_products_fewer(kind, tiny):
    pipeline, call = tiny(kind)
    (proof,) = apply_stack(pipeline, "fused_qkv", call=call).proofs
    figures = proof.figures
    assert figures["gemms"] < figures["gemms_before"]
    assert 0 < figures["fused_modules_run"] < figures["fused_modules"]  # the VAE's encoder rests


def test_each_self_attention_saves_two_products_and_each_cross_attention_one(pipeline, call):
    (proof,) = apply_stack(pipeline, "fused_qkv", call=call).proofs
    attentions = [m for m in pipeline.unet.modules() if hasattr(m, "to_out")]
    crossing = sum(m.is_cross_attention for m in attentions)
    saved_per_step = 2 * (len(attentions) - crossing) + crossing
    in_the_decoder = 2
    assert proof.figures["gemms_before"] - proof.figures["gemms"] == (
        2 * saved_per_step + in_the_decoder
    )


def test_a_batched_product_counts_where_a_linear_layer_makes_it():
    """As torch 2.11 does for an input that is not contiguous; elsewhere it is attention's."""
    with OpCounter() as watch:
        for in_linear in (True, False):
            watch.inside.append(("denoiser", "", in_linear))
            torch.bmm(torch.ones(2, 3, 4), torch.ones(2, 4, 5))
    assert watch.parts()["denoiser"].gemms == 1


def test_a_processor_swapped_back_is_noticed(pipeline, call, monkeypatch):
    original = FusedQkv.apply

    def swaps_one_back(self, pipe):
        original(self, pipe)
        pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(
            AttnProcessor2_0()
        )

    monkeypatch.setattr(FusedQkv, "apply", swaps_one_back)
    expected = r"found separate ones in 1 of them: unet\.mid_block\.attentions\.0\."
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_fusing_that_did_not_happen_is_noticed(pipeline, call, monkeypatch):
    monkeypatch.setattr(FusedQkv, "apply", lambda self, pipe: None)
    with pytest.raises(NotEffectiveError, match="run in 0 attention modules, found none in the u"):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_what_is_fused_already_does_not_fit(pipeline, call):
    pipeline.unet.fuse_qkv_projections()
    before = snapshot(pipeline)
    with pytest.raises(IncompatibleError, match="has no separate projections left that diffusers"):
        apply_stack(pipeline, "fused_qkv", call=call)
    assert snapshot(pipeline) == before


class Adapted(torch.nn.Module):
    """A projection with a LoRA, as peft wraps it."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = torch.nn.Linear(base_layer.in_features, 2, bias=False)
        self.lora_B = torch.nn.Linear(2, base_layer.out_features, bias=False)
        self.weight, self.bias = base_layer.weight, base_layer.bias

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def test_a_loaded_lora_is_not_thrown_away(pipeline, call):
    for attention in list(pipeline.unet.modules()):
        if hasattr(attention, "to_out"):
            attention.to_q, attention.to_v = Adapted(attention.to_q), Adapted(attention.to_v)
    before = snapshot(pipeline)
    expected = r"an adapter \(LoRA\) is loaded on \d+ projections of its unet.*`fuse_lora\(\)`"
    with pytest.raises(IncompatibleError, match=expected):
        apply_stack(pipeline, "fused_qkv", call=call)
    assert snapshot(pipeline) == before


def test_a_model_in_which_diffusers_fuses_nothing_is_incompatible(pipeline, call):
    """`AttentionMixin` passes by attention of the older kind (Qwen-Image, SVD, Stable Audio)."""
    before = snapshot(pipeline)
    pipeline.unet.fuse_qkv_projections = types.MethodType(
        AttentionMixin.fuse_qkv_projections, pipeline.unet
    )
    with pytest.raises(IncompatibleError, match="has no separate projections that diffusers would"):
        apply_stack(pipeline, "fused_qkv", call=call)
    del pipeline.unet.fuse_qkv_projections
    assert snapshot(pipeline) == before


def test_processors_that_read_separate_projections_are_incompatible(
    assert_incompatible,
):
    """Those of LTX-Video, whose projections diffusers fuses in vain."""
    assert_incompatible("LTXPipeline", "fused_qkv", "fused or not: LTXVideoAttnProcessor")


def test_a_projection_that_a_call_looks_for_in_vain_is_incompatible(assert_incompatible):
    """AudioLDM calls cross-attention without a text, and a product for all three is looked for."""
    why = r"did not fuse: 'Attention' .* 'to_qkv'"
    assert_incompatible("AudioLDMPipeline", "fused_qkv", why)


class Weighted(torch.nn.Module):
    """A processor with weights of its own, as an IP-Adapter's."""

    def __init__(self):
        super().__init__()
        self.to_k_ip = torch.nn.Linear(2, 2)
        self.inner = AttnProcessor2_0()

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


def test_processors_with_weights_are_not_thrown_away(pipeline, call):
    attention = pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    attention.set_processor(Weighted())
    before = snapshot(pipeline)
    with pytest.raises(IncompatibleError, match=r"would replace .* weights of their own: W"):
        apply_stack(pipeline, "fused_qkv", call=call)
    assert snapshot(pipeline) == before


@pytest.mark.parametrize("error", [RuntimeError, AttributeError])
def test_projections_that_diffusers_fails_to_fuse_are_left_separate(
    error, pipeline, call, monkeypatch
):
    """Those of LTX-2's attention between sound and picture have two widths; others go by other
    names (Kandinsky 5, PRX)."""
    before = snapshot(pipeline)
    last = [m for m in pipeline.unet.modules() if hasattr(m, "fuse_projections")][-1]
    fuse = last.fuse_projections

    def fails(fuse=True):
        raise error("Sizes of tensors must match")

    monkeypatch.setattr(last, "fuse_projections", fails)
    with pytest.raises(IncompatibleError, match=r"of its unet, a UNet2D.*Sizes of tensors must"):
        apply_stack(pipeline, "fused_qkv", call=call)
    monkeypatch.undo()
    vars(last).pop("fuse_projections", None)
    assert last.fuse_projections == fuse
    assert snapshot(pipeline) == before


def test_a_denoiser_is_never_proven_by_the_vae(pipeline, call, monkeypatch):
    original = FusedQkv.apply

    def fuses_the_vae_only(self, pipe):
        monkeypatch.setattr(pipe.unet, "fuse_qkv_projections", lambda: None)
        original(self, pipe)

    monkeypatch.setattr(FusedQkv, "apply", fuses_the_vae_only)
    with pytest.raises(NotEffectiveError, match="found none in the unet"):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_processors_that_the_pipeline_sets_in_each_call_read_separate_projections(pipeline, call):
    def sets_its_own(pipe, **kwargs):
        pipe.unet.set_attn_processor(AttnProcessor2_0())
        return call(pipe, **kwargs)

    with pytest.raises(IncompatibleError, match="sets attention processors of its own in each"):
        apply_stack(pipeline, "fused_qkv", call=sets_its_own)


def test_plain_attention_would_read_the_projections_that_are_not_fused():
    expected = "'no_sdpa' and 'fused_qkv' contradict each other: .* not fused; keep one"
    with pytest.raises(UnknownStackError, match=expected):
        parse_stack("fused_qkv+no_sdpa")

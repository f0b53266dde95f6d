"""Fused projections: modules that ran, and fewer matrix products."""

import pytest
from diffusers.models.attention_processor import AttnProcessor2_0

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError, UnknownStackError
from pytest_diffspeed.techniques.catalog.projections import FusedQkv
from pytest_diffspeed.techniques.stacks import parse_stack


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


def test_a_processor_swapped_back_is_noticed(pipeline, call, monkeypatch):
    original = FusedQkv.apply

    def swaps_one_back(self, pipe):
        original(self, pipe)
        pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(
            AttnProcessor2_0()
        )

    monkeypatch.setattr(FusedQkv, "apply", swaps_one_back)
    expected = r"found separate ones in 1 of them: denoiser\.mid_block\.attentions\.0\."
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_fusing_that_did_not_happen_is_noticed(pipeline, call, monkeypatch):
    monkeypatch.setattr(FusedQkv, "apply", lambda self, pipe: None)
    with pytest.raises(NotEffectiveError, match="fused projections to run in 0 attention modules"):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_what_is_fused_already_does_not_fit(pipeline, call):
    pipeline.unet.fuse_qkv_projections()
    with pytest.raises(IncompatibleError, match="has no separate projections left to fuse"):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_plain_attention_would_read_the_projections_that_are_not_fused():
    expected = "'no_sdpa' and 'fused_qkv' contradict each other: .* not fused; keep one"
    with pytest.raises(UnknownStackError, match=expected):
        parse_stack("fused_qkv+no_sdpa")

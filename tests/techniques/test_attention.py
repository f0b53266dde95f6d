"""Attention kernels: the op that was dispatched, in denoiser and VAE, and nothing else."""

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError, UnknownStackError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import check_compatible
from pytest_diffspeed.techniques.catalog.attention import SdpaFlash, SdpaMath
from pytest_diffspeed.techniques.catalog.plain_attention import NoSdpa
from pytest_diffspeed.techniques.observation import CompiledPart, CudaGraphs, Observation
from pytest_diffspeed.techniques.stacks import parse_stack

FLASH = "_scaled_dot_product_flash_attention_for_cpu"
H100 = Device("cuda", 0, "NVIDIA H100", "cuda-test")


@pytest.mark.parametrize(
    ("name", "op"),
    [("sdpa_flash", FLASH), ("sdpa_math", "_safe_softmax"), ("no_sdpa", "_softmax")],
)
def test_the_dispatched_op_is_seen_in_denoiser_and_vae(name, op, pipeline, call):
    (proof,) = apply_stack(pipeline, name, call=call).proofs
    seen = proof.figures["attention"]
    assert set(seen["unet"]) == set(seen["vae"]) == {op}
    assert seen["unet"][op] > seen["vae"][op] >= 1


def test_text_encoders_keep_their_own_attention(pipeline, call):
    """They dispatch SDPA too; a proof that looked at them would never find plain attention."""
    apply_stack(pipeline, "no_sdpa", call=call)
    dispatched = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            dispatched.append(func)
            return func(*args, **(kwargs or {}))

    with third_party(), Watch():
        call(pipeline)
    assert F.scaled_dot_product_attention in dispatched


def test_a_processor_swapped_back_is_noticed(pipeline, call, monkeypatch):
    original = NoSdpa.apply

    def swaps_one_back(self, pipe):
        original(self, pipe)
        pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(
            AttnProcessor2_0()
        )

    monkeypatch.setattr(NoSdpa, "apply", swaps_one_back)
    expected = rf"no_sdpa: expected \d+ attentions in the unet by _softmax, found .*{FLASH}': 2"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "no_sdpa", call=call)


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_kernel_that_is_not_pinned_is_noticed(part, pipeline, call, monkeypatch):
    original = SdpaMath.apply

    def unpins(self, pipe):
        original(self, pipe)
        owner = pipe.unet if part == "unet" else pipe.vae.decoder
        del owner.forward

    monkeypatch.setattr(SdpaMath, "apply", unpins)
    where = part
    with pytest.raises(NotEffectiveError, match=f"attentions in the {where} by _safe_softmax"):
        apply_stack(pipeline, "sdpa_math", call=call)


def test_default_processors_that_call_sdpa_themselves_are_not_plain(pipeline, call, monkeypatch):
    """As those of HunyuanDiT and Stable Audio."""
    unet = pipeline.unet
    unet.set_default_attn_processor = lambda: unet.set_attn_processor(AttnProcessor2_0())
    before = unet.attn_processors
    with pytest.raises(
        IncompatibleError, match=r"AttnProcessor2_0, call SDPA themselves; sdpa_math"
    ):
        apply_stack(pipeline, "no_sdpa", call=call)
    assert unet.attn_processors == before


def test_attention_without_a_processor_is_not_made_plain(small):
    """A ControlNetUnion has torch's own multi-head attention besides, and the UNet has not."""
    pipeline, call = small("StableDiffusionXLControlNetUnionPipeline")
    expected = r"in controlnet\.transformer_layes\.0\.attn \(not so the unet\); sdpa_math is"
    with pytest.raises(IncompatibleError, match=expected):
        apply_stack(pipeline, "no_sdpa", call=call)


def test_processors_of_the_users_own_do_not_fit(pipeline, call):
    pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(WithDropout())
    with pytest.raises(IncompatibleError, match="Cannot call `set_default_attn_processor`"):
        apply_stack(pipeline, "no_sdpa", call=call)


def test_processors_that_the_pipeline_sets_in_each_call_stay(pipeline, call):
    def sets_its_own(pipe, **kwargs):
        pipe.unet.set_attn_processor(AttnProcessor2_0())
        return call(pipe, **kwargs)

    with pytest.raises(IncompatibleError, match="sets attention processors of its own in each"):
        apply_stack(pipeline, "no_sdpa", call=sets_its_own)


class WithDropout(AttnProcessor2_0):
    """Attention as no flash kernel of the CPU takes it."""

    def __call__(self, attn, hidden_states, *args, **kwargs):
        x = hidden_states.flatten(2).transpose(1, 2) if hidden_states.dim() == 4 else hidden_states
        y = F.scaled_dot_product_attention(x[None], x[None], x[None], dropout_p=1e-9)[0]
        return y.transpose(1, 2).reshape(hidden_states.shape) if hidden_states.dim() == 4 else y


def test_a_vae_that_the_kernel_cannot_take_keeps_its_attention_and_the_proof_says_so(
    pipeline, call
):
    pipeline.vae.decoder.mid_block.attentions[0].set_processor(WithDropout())
    (proof,) = apply_stack(pipeline, "sdpa_flash", call=call).proofs
    assert FLASH not in proof.figures["attention"]["vae"]
    assert "the VAE keeps its own attention, since torch has no FLASH" in proof.found


def test_a_denoiser_that_the_kernel_cannot_take_does_not_fit(pipeline, call):
    pipeline.unet.mid_block.attentions[0].transformer_blocks[0].attn1.set_processor(WithDropout())
    with pytest.raises(IncompatibleError, match="no FLASH_ATTENTION kernel for the shapes, dtypes"):
        apply_stack(pipeline, "sdpa_flash", call=call)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_reference_is_no_sixteen_bit_attention(precision):
    """Torch casts up in it, so that the stack would not be in the precision that it names."""
    with pytest.raises(UnknownStackError, match="computes 16-bit attention in float32; keep one"):
        parse_stack(f"{precision}+sdpa_math")


def test_plain_attention_is_in_the_precision_of_the_stack(pipeline, call):
    applied = apply_stack(pipeline, "bf16+no_sdpa", call=call)
    assert applied.proofs[0].figures["dtype"] == "torch.bfloat16"


def test_a_denoiser_without_attention_does_not_fit(pipeline, call):
    apply_stack(pipeline, "no_sdpa", call=call)  # now nothing calls SDPA any more
    with pytest.raises(IncompatibleError, match="does not call scaled_dot_product_attention"):
        apply_stack(pipeline, "sdpa_math", call=call)


@pytest.mark.parametrize("name", ["sdpa_flash", "sdpa_cudnn"])
def test_on_cuda_the_fast_kernels_need_sixteen_bits(name, pipeline, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(IncompatibleError, match=rf"takes bfloat16 and .* write 'bf16\+{name}'"):
        check_compatible(parse_stack(name), pipeline, H100)
    check_compatible(parse_stack(f"bf16+{name}"), pipeline, H100)


def compiled(launches=0, **attention):
    part = CompiledPart(2, {0: 2}, attention=attention)
    return Observation(compiled={"unet": part}, cuda_graphs=CudaGraphs(launches=launches))


def test_attention_is_checked_again_in_compiled_code(pipeline):
    figures = SdpaFlash().prove_compiled(pipeline, compiled(**{FLASH: 4}))
    assert figures == {"compiled_attention": {"unet": {FLASH: 4}}}
    with pytest.raises(NotEffectiveError, match=r"in the compiled unet by .*, found none"):
        SdpaFlash().prove_compiled(pipeline, compiled())
    with pytest.raises(NotEffectiveError, match="_scaled_dot_product_efficient_attention"):
        SdpaFlash().prove_compiled(
            pipeline, compiled(**{FLASH: 4, "_scaled_dot_product_efficient_attention": 1})
        )


def test_plain_attention_that_the_compiler_fuses_again_is_noticed(pipeline):
    NoSdpa().prove_compiled(pipeline, compiled())
    with pytest.raises(NotEffectiveError, match=r"no_sdpa: .* by no fused kernel, found .*flash"):
        NoSdpa().prove_compiled(pipeline, compiled(**{FLASH: 4}))


def test_replayed_cuda_graphs_show_no_attention_and_the_proof_says_so(pipeline):
    for technique in (SdpaFlash(), NoSdpa()):
        figures = technique.prove_compiled(pipeline, compiled(launches=3))
        assert figures == {"attention_seen": "before CUDA graphs"}


def test_beside_cuda_graphs_what_is_seen_counts_all_the_same(pipeline):
    """Where a part of the pipeline is not replayed."""
    figures = SdpaFlash().prove_compiled(pipeline, compiled(launches=3, **{FLASH: 4}))
    assert figures == {
        "attention_seen": "before CUDA graphs",
        "compiled_attention": {"unet": {FLASH: 4}},
    }
    with pytest.raises(NotEffectiveError, match=r"no_sdpa: .* by no fused kernel, found .*flash"):
        NoSdpa().prove_compiled(pipeline, compiled(launches=3, **{FLASH: 4}))

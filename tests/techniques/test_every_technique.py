"""Every technique on a UNet and on a transformer: it is proven, or it says why it is not there."""

import json

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError, MissingHardwareError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import running
from pytest_diffspeed.techniques.catalog import quantization
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.technique import Family

CUDA_ONLY = {
    "tf32": "TF32 is a mode of NVIDIA's tensor cores",
    "sdpa_efficient": "torch has this attention kernel on CUDA only",
    "sdpa_cudnn": "torch has this attention kernel on CUDA only",
    "model_offload": "its memory is the host's, so there is nothing to move weights to and from",
    "group_offload": "its memory is the host's, so there is nothing to move weights to and from",
}
MISFITS = {
    ("cpu_sigmas", "unet"): "it sets the begin index itself, so there is nothing to gain",
    ("cpu_sigmas", "transformer"): "it sets the begin index itself, so there is nothing to gain",
    ("int8_dynamic", "unet"): r"its filter takes none of \d+ linear layers; .* multiply-adds",
    ("int8_dynamic", "transformer"): r"its filter takes none of \d+ linear layers",
    ("fp8_dynamic", "unet"): r"its filter takes none of \d+ linear layers; .* multiply-adds",
    ("fp8_dynamic", "transformer"): r"its filter takes none of \d+ linear layers",
    # With files of their own they are tried in tests/techniques/test_lora.py.
    ("lora", "unet"): "there is no adapter adapter.safetensors",
    ("lora", "transformer"): "there is no adapter adapter.safetensors",
    ("scheduler", "transformer"): "its model predicts flows",
    ("vae_slicing", "unet"): "its calls decode one image at a time, so there is nothing to slice",
    ("vae_slicing", "transformer"): "its calls decode one image at a time",
    ("no_sdpa", "transformer"): "no attention processor without SDPA .* sdpa_math is the nearest",
}
SMALL = {"vae_tiling": "vae_tiling(tile=16)"}  # of itself a tile is as large as these pictures
LOSSLESS = {"fp32", "sdpa_flash", "sdpa_math", "no_sdpa", "channels_last", "fused_qkv"}
NAMES = [
    name
    for name, technique in techniques().items()
    if name not in CUDA_ONLY
    and technique.family not in (Family.CACHE, Family.COMPILE)  # they have files of their own
]


@pytest.mark.parametrize("kind", ["unet", "transformer"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
def test_it_is_proven_or_says_why_it_does_not_fit(name, kind, tiny):
    pipeline, call = tiny(kind)
    stack = SMALL.get(name) or techniques()[name].example or name
    if (name, kind) in MISFITS:
        with pytest.raises(IncompatibleError, match=MISFITS[name, kind]):
            apply_stack(pipeline, stack, call=call)
        return
    with third_party():
        baseline = call(pipeline)
    applied = apply_stack(pipeline, stack, call=call)
    (proof,) = applied.proofs
    assert proof.technique == name
    assert proof.found and proof.figures
    assert json.loads(json.dumps(vars(proof))) == vars(proof)  # it goes into the record
    with third_party(), running(applied.stack):
        image = call(pipeline)
    assert torch.isfinite(image).all()
    if name in LOSSLESS:
        torch.testing.assert_close(image, baseline, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "why"), CUDA_ONLY.items())
def test_missing_hardware_is_said_on_a_cpu(name, why, pipeline, call):
    with pytest.raises(MissingHardwareError, match=rf"{name} on .*: {why}"):
        apply_stack(pipeline, name, call=call)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["unet", "transformer"])
def test_a_long_stack_is_proven_in_canonical_order(kind, tiny, without_inductor, monkeypatch):
    monkeypatch.setattr(quantization.Int8Dynamic, "leaves", lambda self, linear: None)
    pipeline, call = tiny(f"{kind} of few blocks")
    written = "compile+sdpa_flash+int8_dynamic+fused_qkv+channels_last+bf16"
    applied = apply_stack(pipeline, written, call=call)
    canonical = "bf16+channels_last+fused_qkv+int8_dynamic+sdpa_flash+compile"
    assert applied.stack == parse_stack(canonical)
    assert [proof.technique for proof in applied.proofs] == canonical.split("+")
    figures = {proof.technique: proof.figures for proof in applied.proofs}
    flash = "_scaled_dot_product_flash_attention_for_cpu"
    assert set(figures["sdpa_flash"]["compiled_attention"][kind]) == {flash}
    assert figures["int8_dynamic"]["flops_share"] == 1.0
    assert figures["compile"]["compiled_frames"] == 2


def test_each_family_is_known():
    assert {technique.family for technique in techniques().values()} == set(Family)

"""One real compilation by inductor: its flags are in force inside it, and its trace is read.

The flags ask for CUDA graphs, which do not exist on a CPU: so it is seen that inductor's giving
them up is counted.
"""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.adapters.torch_internals import cuda_graph_skips
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.catalog.compile import GUIDE_FLAGS, Compile

FLASH = "_scaled_dot_product_flash_attention_for_cpu"


@pytest.fixture(scope="module")
def compiled(tiny):
    """A transformer and its VAE, compiled: what was proven, and the flags seen in compilations."""
    with third_party():
        import torch._inductor.config as inductor

    pipeline, call = tiny("transformer")
    in_force = []

    def look(graph):
        in_force.append({flag: getattr(inductor, flag) for flag in GUIDE_FLAGS})

    skips = cuda_graph_skips().count
    torch.compiler.reset()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Compile, "flags", {**GUIDE_FLAGS, "triton.cudagraphs": True})
        with inductor.patch(post_grad_custom_pre_pass=look):
            applied = apply_stack(pipeline, "sdpa_flash+compile", call=call)
    afterwards = {flag: getattr(inductor, flag) for flag in GUIDE_FLAGS}
    yield applied, in_force, afterwards, cuda_graph_skips().count - skips
    torch.compiler.reset()


@pytest.mark.slow
def test_the_guides_flags_are_in_force_inside_inductor_and_not_afterwards(compiled):
    _, in_force, afterwards, _ = compiled
    assert in_force == [dict(GUIDE_FLAGS), dict(GUIDE_FLAGS)]  # denoiser and decode
    assert not any(afterwards[flag] == wanted for flag, wanted in GUIDE_FLAGS.items())


@pytest.mark.slow
def test_denoiser_and_decode_are_told_apart_in_the_trace(compiled):
    applied, *_ = compiled
    figures = {proof.technique: proof.figures for proof in applied.proofs}
    assert figures["compile"]["runs"] == {"transformer": 2, "vae.decode": 1}
    attention = figures["sdpa_flash"]["compiled_attention"]
    assert set(attention["transformer"]) == set(attention["vae.decode"]) == {FLASH}


@pytest.mark.slow
def test_cuda_graphs_that_inductor_gives_up_are_counted(compiled):
    *_, skips = compiled
    assert skips == 2  # denoiser and decode; inductor keeps its reason for CUDA graphs only

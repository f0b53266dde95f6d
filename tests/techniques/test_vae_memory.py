"""``vae_tiling`` and ``vae_slicing``: pieces that the decoder ran on, and bytes that it held."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.adapters.diffusers_tiling import decode_in_tiles, tiling_of, why_not_tiled
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    NotEffectiveError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.techniques.apply import running, undo_stack
from pytest_diffspeed.techniques.catalog.vae_memory import VaeSlicing, VaeTiling
from pytest_diffspeed.techniques.decode_watch import watched_decodes
from pytest_diffspeed.techniques.live_bytes import LiveBytes
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.undo import snapshot
from pytest_diffspeed.timing.simulated_memory import simulated_peak


def drawn(pipeline, call, stack="fp32"):
    with third_party(), running(parse_stack(stack)):
        return call(pipeline)


def of_two_tiles(pipeline, call, **arguments):
    """Calls that draw 64 × 64: twice as large as what its VAE decodes at once where it tiles."""
    defaults = replace(call.defaults, height=64, width=64, arguments=arguments)
    with third_party():
        return PipelineCall(pipeline, defaults, "a red apple")


@pytest.fixture
def call(pipeline, call):
    return of_two_tiles(pipeline, call)


@pytest.fixture
def two_images(pipeline, call):
    """A pipeline whose calls draw two pictures."""
    return pipeline, of_two_tiles(pipeline, call, num_images_per_prompt=2)


# --- what is alive at once


def test_bytes_are_counted_from_the_op_to_the_last_tensor():
    given = torch.ones(1000)  # neither it nor a view of it is counted
    with LiveBytes() as counter:
        view = given.view(10, 100).t()
        for _ in range(3):
            once = view + 1  # the next one is made while the one before is alive
        half = once[:5]
        del once  # its storage lives as long as the view does
        assert counter.live == 4000
        del half
        assert counter.live == 0
    assert counter.peak == 8000


def test_what_is_written_in_place_and_lists_count_once():
    with LiveBytes() as counter:
        parts = torch.zeros(100).split(10)
        for part in parts:
            part.add_(1)
        assert counter.live == counter.peak == 400


# --- tiles


def test_tiles_that_ran_are_counted_and_undone_to_the_same_image(pipeline, call):
    before, was = drawn(pipeline, call), snapshot(pipeline)
    (proof,) = apply_stack(pipeline, "vae_tiling", call=call).proofs
    assert proof.found.startswith(
        "vae decoded in 9 tiles of at most 8 × 8 latents in place of 1 of 16 × 16, holding 0."
    )
    figures = proof.figures["vae"]
    assert (figures["tiles"], figures["runs_before"]) == (9, 1)
    assert figures["latents_decoded"] == (4 * 64 + 4 * 32 + 16) / 256  # they overlap
    assert figures["peak_bytes"] < figures["peak_bytes_before"] / 2
    assert json.loads(json.dumps(vars(proof))) == vars(proof)  # it goes into the record
    tiled = drawn(pipeline, call, "vae_tiling")
    assert torch.isfinite(tiled).all() and not torch.equal(tiled, before)
    undo_stack(pipeline, "vae_tiling")
    assert snapshot(pipeline) == was and not pipeline.vae.use_tiling
    assert torch.equal(drawn(pipeline, call), before)


def test_a_size_of_tiles_is_heeded_and_put_back(pipeline, call):
    sizes = tiling_of(pipeline.vae)
    (proof,) = apply_stack(pipeline, "vae_tiling(tile=48)", call=call).proofs
    assert proof.figures["vae"]["tiles"] == 4
    assert proof.figures["vae"]["tile_latents"] == [12, 12]
    undo_stack(pipeline, "vae_tiling(tile=48)")
    assert tiling_of(pipeline.vae) == sizes


def test_the_peak_of_a_call_on_the_simulated_gpu_falls_as_the_proof_says(pipeline, call):
    """`max_memory` counts whole calls so: of these tiny models the decode is the peak."""
    parts = {name: p for name, p in pipeline.components.items() if isinstance(p, torch.nn.Module)}

    def peak():
        with third_party():
            return simulated_peak(lambda: call(pipeline), parts)

    before = peak()
    (proof,) = apply_stack(pipeline, "vae_tiling", call=call).proofs
    after = peak()
    assert before.weight_bytes == after.weight_bytes
    assert after.allocated_bytes < before.allocated_bytes
    saved = proof.figures["vae"]["peak_bytes_before"] - proof.figures["vae"]["peak_bytes"]
    assert before.allocated_bytes - after.allocated_bytes <= saved


def test_a_picture_no_larger_than_a_tile_is_told(pipeline, call):
    with pytest.raises(NotEffectiveError) as caught:
        apply_stack(pipeline, "vae_tiling(tile=64)", call=call)
    assert str(caught.value) == (
        "vae_tiling(tile=64): expected vae to decode 16 × 16 latents in tiles, found 1 run of "
        "16 × 16: a picture that is no larger than a tile (64 pixels) is decoded whole; write a "
        "smaller 'vae_tiling(tile=…)', or draw larger pictures"
    )
    assert not pipeline.vae.use_tiling


@pytest.mark.parametrize("what", ["switched off", "decoded whole", "held all the same"])
def test_tiles_that_do_not_run_or_save_nothing_are_noticed(what, pipeline, call, monkeypatch):
    original = VaeTiling.apply

    def spoil(self, pipe):
        original(self, pipe)
        vae = pipe.vae
        if what == "switched off":
            vae.disable_tiling()
        elif what == "decoded whole":
            vae.tiled_decode = lambda z, return_dict=True: type(vae)._decode(untiled(vae), z)
        else:
            inner = vae.decoder.forward
            vae.decoder.forward = lambda z, *a, **k: kept.append(z.new_zeros(10**6)) or inner(z)

    def untiled(vae):
        return SimpleNamespace(
            use_tiling=False, post_quant_conv=vae.post_quant_conv, decoder=vae.decoder
        )

    kept = []
    monkeypatch.setattr(VaeTiling, "apply", spoil)
    found = "to hold less than" if what == "held all the same" else r"found 1 run of 16 × 16"
    with pytest.raises(NotEffectiveError, match=found):
        apply_stack(pipeline, "vae_tiling", call=call)


def test_what_its_vae_cannot_do_is_refused(pipeline, call):
    told = r"tiles of 40 pixels do not fit .* overlaps them by 0.25 and makes 4 .* write tile=32"
    with pytest.raises(IncompatibleError, match=told):
        apply_stack(pipeline, "vae_tiling(tile=40)", call=call)
    pipeline.vae.enable_tiling()
    with pytest.raises(IncompatibleError, match="decodes in tiles of itself; leave `enable_til"):
        apply_stack(pipeline, "vae_tiling", call=call)


def test_a_pipeline_without_a_vae_refuses_both(assert_incompatible):
    for name in ("vae_tiling", "vae_slicing"):
        assert_incompatible("DDPMPipeline", name, "it has no VAE that decodes")


@pytest.mark.parametrize("name", ["compile", "compile_max_autotune"])
@pytest.mark.parametrize("piece", ["vae_tiling", "vae_slicing"])
def test_compiled_decodes_are_refused_with_the_reason(name, piece):
    with pytest.raises(UnknownStackError, match="unrolls all tiles or images of a decode"):
        parse_stack(f"{name}+bf16+{piece}")


def decodes_of(pipeline, latents):
    with watched_decodes(pipeline) as seen, third_party(), torch.no_grad():
        pipeline.vae.decode(latents)
    return seen["vae"]


def test_the_vaes_of_videos_take_their_sides(small):
    """They are told by arguments, each with strides of its own."""
    pipeline, _ = small("WanPipeline")
    vae, latents = pipeline.vae, torch.zeros(1, 16, 2, 8, 8)
    assert "tiles of 24 would be cut" in why_not_tiled(vae, 24)
    assert why_not_tiled(vae, 32) is None
    before = decodes_of(pipeline, latents)
    decode_in_tiles(vae, 32)
    now = decodes_of(pipeline, latents)
    assert (before.runs, before.largest) == (2, (8, 8))  # frame by frame
    assert (now.runs, now.largest) == (18, (4, 4))
    assert before.output == now.output == (1, 3, 5, 64, 64)
    assert now.peak_bytes < before.peak_bytes


def test_tiles_that_give_a_picture_of_another_size_are_told(small):
    """Their overlaps are rounded in latents and in pixels, each by itself."""
    pipeline, _ = small("CogVideoXPipeline")
    latents = torch.zeros(1, 4, 1, 8, 8)
    before = decodes_of(pipeline, latents)
    decode_in_tiles(pipeline.vae, 32)
    with pytest.raises(NotEffectiveError, match="to give 64 × 64 pixels as before, found 70 × 68"):
        VaeTiling().require_less("vae", before, decodes_of(pipeline, latents))


# --- slices


def test_images_of_a_batch_are_decoded_one_by_one(two_images):
    pipeline, call = two_images
    before, was = drawn(pipeline, call), snapshot(pipeline)
    (proof,) = apply_stack(pipeline, "vae_slicing", call=call).proofs
    assert proof.found.startswith(
        "vae decoded 2 images one by one, in 2 runs in place of 1, holding 0."
    )
    figures = proof.figures["vae"]
    assert figures["peak_bytes"] < 0.6 * figures["peak_bytes_before"]
    assert json.loads(json.dumps(vars(proof))) == vars(proof)
    torch.testing.assert_close(drawn(pipeline, call), before, rtol=0, atol=1e-5)
    undo_stack(pipeline, "vae_slicing")
    assert snapshot(pipeline) == was and not pipeline.vae.use_slicing
    assert torch.equal(drawn(pipeline, call), before)


def test_slices_of_tiles(two_images):
    pipeline, call = two_images
    applied = apply_stack(pipeline, "vae_slicing+bf16+vae_tiling", call=call)
    assert applied.stack.name == "bf16+vae_tiling+vae_slicing"
    tiles, slices = (proof.figures["vae"] for proof in applied.proofs[1:])
    assert tiles["tiles"] == slices["runs"] == 18


def test_images_that_are_decoded_together_all_the_same_are_noticed(two_images, monkeypatch):
    pipeline, call = two_images
    monkeypatch.setattr(VaeSlicing, "apply", lambda self, pipe: None)
    with pytest.raises(NotEffectiveError, match="found none"):
        apply_stack(pipeline, "vae_slicing", call=call)
    monkeypatch.undo()
    monkeypatch.setattr(type(pipeline.vae), "enable_slicing", lambda self: None)
    with pytest.raises(NotEffectiveError, match="2 images one by one, found 2 at once in 1 run"):
        apply_stack(pipeline, "vae_slicing", call=call)


def test_tiles_go_with_compiled_blocks_whose_decode_stays_eager(tiny, without_inductor):
    pipeline, call = tiny("transformer of few blocks")
    applied = apply_stack(pipeline, "vae_tiling(tile=8)+compile_regional", call=call)
    assert [proof.technique for proof in applied.proofs] == ["vae_tiling", "compile_regional"]
    assert applied.proofs[0].figures["vae"]["tiles"] == 9

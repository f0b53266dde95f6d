"""diffusers' caches of features: what they left out is counted, and nothing is left of a call."""

import json
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.pipeline_state import changed_aspects, pipeline_state
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.apply import running, undo_stack
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.undo import snapshot

STEPS = 6
FLUX, WAN, UNET = "FluxPipeline", "WanPipeline", "StableDiffusionPipeline"
EXPERTS, COG = "WanPipeline-two-experts", "CogVideoXPipeline"
FIRST_BLOCK = "first_block_cache(threshold=0.9)"
TAYLOR = "taylorseer(cache_interval=2,disable_cache_before_step=1)"
LITE = "taylorseer(cache_interval=2,disable_cache_before_step=1,use_lite_mode=True)"
PYRAMID = "pyramid_attention(spatial_attention_block_skip_range=2)"
CROSS = "pyramid_attention(cross_attention_block_skip_range=3)"
DISTILLED = "faster_cache(is_guidance_distilled=True)"
GUIDED = "faster_cache(tensor_format=BFCHW)"
MAG = "mag_cache(threshold=0.5)"


@pytest.fixture(scope="module")
def made():
    """``pipeline, call, image = made("FluxPipeline")``: one for all tests, which leave it as it
    was, and what a call of it draws.
    """
    known = {}

    def build(name):
        if name not in known:
            source = parse_source(f"random:{name}")
            with third_party():
                pipeline = source.build()
                call = PipelineCall(pipeline, replace(source.defaults(pipeline), steps=STEPS))
                known[name] = pipeline, call, call(pipeline)
        return known[name]

    return build


def denoisers(pipeline):
    names = ("transformer", "transformer_2", "unet")
    found = {name: getattr(pipeline, name, None) for name in names}
    return {name: model for name, model in found.items() if model is not None}


class Stopped(Exception):
    pass


def stopped_call(pipeline, call):
    """A call that ends in its fourth step or later, where something is in the cache."""
    passes = []

    def stop(*_):
        passes.append(1)
        if len(passes) == 4:
            raise Stopped

    with ExitStack() as stack:
        for model in denoisers(pipeline).values():
            stack.callback(model.register_forward_pre_hook(stop).remove)
        with pytest.raises(Stopped):
            call(pipeline)


def products(pipeline, call):
    """How often linear layers of each denoiser ran in a call, in blocks and attention modules."""
    ran = {name: 0 for name in denoisers(pipeline)}
    with ExitStack() as stack:
        for name, model in denoisers(pipeline).items():
            for path, layer in model.named_modules():
                if isinstance(layer, torch.nn.Linear) and "blocks" in path:

                    def count(*_, name=name):
                        ran[name] += 1

                    stack.callback(layer.register_forward_pre_hook(count).remove)
        call(pipeline)
    return ran


@pytest.mark.parametrize(
    ("source", "stack", "skipped"),
    [
        (FLUX, FIRST_BLOCK, None),
        (FLUX, MAG, None),
        (FLUX, TAYLOR, (6, 12)),  # both attentions in each second step
        (FLUX, LITE, (9, 18)),  # two blocks and the last projection
        (FLUX, PYRAMID, (4, 12)),  # timesteps 667, 500, 333 and 167 are in the range; two are even
        (FLUX, DISTILLED, None),
        (WAN, FIRST_BLOCK, None),
        (WAN, MAG, None),
        (EXPERTS, FIRST_BLOCK, None),
        (COG, GUIDED, None),
        (UNET, PYRAMID, None),
        (UNET, CROSS, None),
    ],
)
def test_what_is_skipped_is_counted_and_calls_are_alike(made, source, stack, skipped):
    pipeline, call, image = made(source)
    before = snapshot(pipeline)
    with third_party():
        all_of_it = products(pipeline, call)
    applied = apply_stack(pipeline, stack, call=call)
    (proof,) = applied.proofs
    assert json.loads(json.dumps(vars(proof))) == vars(proof)
    found = proof.figures["skipped"]
    assert found.keys() == denoisers(pipeline).keys()
    assert proof.figures["steps"] == STEPS
    for one in found.values():
        assert 0 < one["skipped"] < one["calls"] == one["computed"] + one["skipped"]
        assert 0 < one["linear_flops"] < 1
    if skipped:
        assert (found["transformer"]["skipped"], found["transformer"]["calls"]) == skipped
    with third_party(), running(applied.stack):
        state = pipeline_state(pipeline)
        left = products(pipeline, call)
        assert all(0 < left[name] < all_of_it[name] for name in left)
        first = call(pipeline)
        stopped_call(pipeline, call)
        assert torch.equal(call(pipeline), first)
        assert torch.equal(call(pipeline), first)
        assert changed_aspects(state, pipeline_state(pipeline)) == []
    assert not torch.equal(first, image)
    undo_stack(pipeline, stack)
    assert snapshot(pipeline) == before
    with third_party():
        assert torch.equal(call(pipeline), image)


def test_the_rest_of_a_stack_is_proven_without_the_cache(small):
    pipeline, call = small(FLUX)
    call = call.varied(steps=STEPS)
    applied = apply_stack(pipeline, f"{FIRST_BLOCK}+sdpa_flash+fused_qkv+bf16", call=call)
    assert applied.stack.name == f"bf16+fused_qkv+sdpa_flash+{FIRST_BLOCK}"
    assert "matrix products became" in applied.proofs[1].found
    assert applied.proofs[1].found.endswith("in 2 steps")
    assert "block calls of the transformer skipped" in applied.proofs[3].found


def test_steps_of_the_stack_are_those_that_are_counted(made):
    pipeline, call, _ = made(FLUX)
    proofs = apply_stack(pipeline, f"steps(4)+{LITE}", call=call).proofs
    assert proofs[1].figures["steps"] == 4
    assert proofs[1].figures["skipped"]["transformer"]["calls"] == 3 * 4
    undo_stack(pipeline, f"steps(4)+{LITE}")


@pytest.mark.parametrize(
    ("source", "stack", "told"),
    [
        (FLUX, "first_block_cache(threshold=0.0)", r"all 12 in the transformer .*raise threshold"),
        (FLUX, "taylorseer(disable_cache_before_step=6)", r"before_step=6 .*draw in more steps"),
        (FLUX, "mag_cache(retention_ratio=1.0)", r"the first 1.0 of the steps .* always"),
        (UNET, f"{PYRAMID[:-1]},spatial_attention_timestep_skip_range='0:1')", r"widen the first"),
    ],
)
def test_a_cache_that_never_fires_is_not_effective(made, source, stack, told):
    pipeline, call, image = made(source)
    with pytest.raises(NotEffectiveError, match=told):
        apply_stack(pipeline, stack, call=call)
    with third_party():
        assert torch.equal(call(pipeline), image)


def test_hooks_that_compute_all_the_same_are_seen(made, monkeypatch):
    """They are there, they are called, and the blocks run inside of them."""
    from diffusers.hooks.first_block_cache import FBCHeadBlockHook

    compute = lambda self, residual: True  # noqa: E731
    monkeypatch.setattr(FBCHeadBlockHook, "_should_compute_remaining_blocks", compute)
    pipeline, call, _ = made(WAN)
    with pytest.raises(NotEffectiveError, match="found that all 24 in the transformer computed"):
        apply_stack(pipeline, FIRST_BLOCK, call=call)


def test_a_second_expert_that_skips_nothing_is_named(made, monkeypatch):
    from pytest_diffspeed.techniques.catalog.first_block_cache import FirstBlockCache

    pipeline, call, _ = made(EXPERTS)

    def threshold(self, pipe, name, model):
        return {"threshold": 0.9 if name == "transformer" else 0.0}

    monkeypatch.setattr(FirstBlockCache, "values", threshold)
    with pytest.raises(NotEffectiveError, match=r"that all \d+ in the transformer_2 computed"):
        apply_stack(pipeline, FIRST_BLOCK, call=call)


def test_another_kind_of_arithmetic_beside_the_cache_fails_its_proof(made, monkeypatch):
    from pytest_diffspeed.techniques.catalog.first_block_cache import FirstBlockCache

    pipeline, call, _ = made(FLUX)
    original = FirstBlockCache.apply

    def also_halves(self, pipe):
        original(self, pipe)
        layer = pipe.transformer.proj_out
        own = type(layer).forward

        def in_half(x):
            with torch.autocast("cpu", torch.bfloat16):
                return own(layer, x).float()

        layer.forward = in_half  # undoing the cache takes it off again

    monkeypatch.setattr(FirstBlockCache, "apply", also_halves)
    with pytest.raises(NotEffectiveError, match=r"found torch.bfloat16 in the transformer"):
        apply_stack(pipeline, FIRST_BLOCK, call=call)


@pytest.mark.parametrize(
    ("source", "stack", "why"),
    [
        (UNET, FIRST_BLOCK, "unet: a UNet2DConditionModel has no cache of blocks in diffusers"),
        (UNET, MAG, "unet: a UNet2DConditionModel has no cache of blocks"),
        (UNET, TAYLOR, "unet: a UNet2DConditionModel has no such cache"),
        (UNET, DISTILLED, "unet: a UNet2DConditionModel has no such cache"),
        (COG, FIRST_BLOCK, "transformer: it has 1 block, and 2 are needed"),
        (WAN, PYRAMID, "its transformer runs 2 times in a step, .* keeps one state for all"),
        (WAN, DISTILLED, "its transformer runs 2 times in a step, .* keeps one state for all"),
        (WAN, TAYLOR, r"diffusers finds no module in its transformer .*cache_identifiers="),
        (FLUX, GUIDED, "a call with it raised .* is_guidance_distilled=True is for those"),
        ("FluxKontextPipeline", FIRST_BLOCK, "it calls its denoiser outside of `cache_context`"),
    ],
)
def test_what_cannot_take_it_is_refused_and_left_as_it_was(made, source, stack, why):
    pipeline, call, image = made(source)
    before = snapshot(pipeline)
    with pytest.raises(IncompatibleError, match=why):
        apply_stack(pipeline, stack, call=call)
    assert snapshot(pipeline) == before
    with third_party():
        assert torch.equal(call(pipeline), image)


def test_other_names_of_modules_are_taken_by_a_pattern(made):
    pipeline, call, _ = made(WAN)
    stack = f"{TAYLOR[:-1]},cache_identifiers='blocks.*attn[12]',taylor_factors_dtype=float32)"
    (proof,) = apply_stack(pipeline, stack, call=call).proofs
    # Of four attentions, called with and without the prompt in six steps, each second one.
    found = proof.figures["skipped"]["transformer"]
    assert (found["modules"], found["calls"], found["skipped"]) == (4, 48, 24)
    undo_stack(pipeline, stack)


@pytest.mark.parametrize("stack", [FIRST_BLOCK, TAYLOR, PYRAMID, DISTILLED])
def test_a_cache_breaks_the_graph_that_compilation_asks_for(made, stack, fresh_dynamo):
    """Why a stack of both is refused when it is read."""
    pipeline, call, _ = made(FLUX)
    (technique,) = parse_stack(stack).techniques()
    technique.apply(pipeline)
    pipeline.transformer.compile(backend="eager", fullgraph=True)
    try:
        with third_party(), pytest.raises(torch._dynamo.exc.Unsupported):
            call(pipeline)
    finally:
        pipeline.transformer._compiled_call_impl = None
        technique.undo(pipeline)

"""``compile_regional``: each kind of block compiled once, in every denoiser, and nothing eager."""

import json

import pytest
import torch
import two_experts
from repeating_blocks import Block, Named, Repeating

from pytest_diffspeed import apply_stack
from pytest_diffspeed.arms.gpu_cost.stack import compiled_by
from pytest_diffspeed.common.errors import IncompatibleError, NotEffectiveError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import undo_stack
from pytest_diffspeed.techniques.catalog.compile_regional import CompileRegional
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.repeated_blocks import repeated_blocks
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.undo import snapshot

pytestmark = pytest.mark.usefixtures("without_inductor")
NAME = "compile_regional"
FLASH = "_scaled_dot_product_flash_attention_for_cpu"


def build(first=Repeating, second=None):
    return two_experts.build(first=first, second=second or first)


def prove(pipeline):
    return apply_stack(pipeline, NAME, call=two_experts.call).proofs[-1]


def with_options(monkeypatch, **changed):
    options = CompileRegional.options
    monkeypatch.setattr(CompileRegional, "options", lambda self: {**options(self), **changed})


def test_blocks_that_repeat_are_compiled_once_in_each_denoiser():
    pipeline = build()
    proof = prove(pipeline)
    # Of each pixel: two convolutions of 4 × 64, three blocks of 2 × 16 × 16, one of 2 × 64 × 64.
    share = 3 * 512 / (2 * 256 + 3 * 512 + 8192)
    assert proof.figures["flops_share"]["transformer"] == pytest.approx(share)
    assert proof.found == (
        "blocks that ran compiled code in each call, in 2 steps: 3 Block (1 compilation) of the "
        "transformer, 15.0% of its linear and convolution FLOPs; 3 Block (1 compilation) of the "
        "transformer_2, 15.0% of its linear and convolution FLOPs; vae.decode eager"
    )
    assert json.loads(json.dumps(vars(proof))) == vars(proof)
    assert proof.figures["blocks"]["transformer"]["Block"] == {
        "name": "Block",
        "instances": 3,
        "called": 3,
        "calls": 3,
        "runs": 3,
        "compilations": 1,
        "shapes": 1,
    }
    assert proof.figures["named_by"] == {"transformer": "weights", "transformer_2": "weights"}


def test_blocks_that_the_model_names_are_those_of_diffusers():
    pipeline = build(Named)
    regions = repeated_blocks(pipeline.transformer)
    assert (regions.named_by, list(regions.blocks)) == (
        "diffusers",
        [f"blocks.{n}" for n in "0123"],
    )
    kind = prove(pipeline).figures["blocks"]["transformer"]["Block"]
    assert (kind["instances"], kind["compilations"], kind["shapes"]) == (4, 2, 2)


def test_what_two_models_of_one_kind_hold_repeats_and_not_the_models():
    nets = torch.nn.Module()
    nets.nets = torch.nn.ModuleList([Repeating(), Repeating()])
    assert list(repeated_blocks(nets).blocks) == [
        f"nets.{net}.blocks.{n}" for net in range(2) for n in range(4)
    ]


def test_a_part_of_a_last_block_that_is_another_does_not_repeat():
    """SD3's last block has no second output, and its feed-forward is like those of the others."""
    from diffusers import SD3Transformer2DModel

    with torch.device("meta"):
        transformer = SD3Transformer2DModel(
            num_layers=3, num_attention_heads=2, attention_head_dim=8, caption_projection_dim=16
        )
    regions = repeated_blocks(transformer)
    assert regions.kinds["JointTransformerBlock"] >= 2
    assert regions.named_by == "diffusers" or regions.kinds == {"JointTransformerBlock": 2}


def test_the_same_image_comes_out_when_it_is_undone():
    pipeline = build(Named)
    with third_party():
        image, before = two_experts.call(pipeline), snapshot(pipeline)
    attributes = set(vars(pipeline))
    apply_stack(pipeline, f"channels_last+{NAME}", call=two_experts.call)
    assert pipeline.transformer.blocks[0]._compiled_call_impl is not None
    assert pipeline.transformer._compiled_call_impl is None
    undo_stack(pipeline, f"channels_last+{NAME}")
    assert snapshot(pipeline) == before
    assert set(vars(pipeline)) == attributes
    with third_party():
        assert torch.equal(two_experts.call(pipeline), image)


# --- Compiled, and yet not ------------------------------------------------------------------------


def test_compilation_that_was_not_applied_is_noticed(monkeypatch):
    monkeypatch.setattr(CompileRegional, "apply", lambda self, pipe: None)
    expected = "repeated blocks of transformer to be compiled by themselves, found 0 that are"
    with pytest.raises(NotEffectiveError, match=expected):
        prove(build())


@pytest.mark.parametrize("part", ["transformer", "transformer_2"])
def test_a_block_that_was_forgotten_is_named(part, monkeypatch):
    apply = CompileRegional.apply

    def all_but_one(self, pipe):
        apply(self, pipe)
        getattr(pipe, part).blocks[1]._compiled_call_impl = None

    monkeypatch.setattr(CompileRegional, "apply", all_but_one)
    expected = rf"blocks of {part} to be .* found 2 that are; without: blocks\.1"
    with pytest.raises(NotEffectiveError, match=expected):
        prove(build())


class Wide(Named):
    """More kinds of weights than dynamo compiles a function for, of itself."""

    WIDTHS = tuple(range(8, 8 + 10))


def test_more_shapes_than_dynamo_s_limit_are_compiled_all_the_same():
    """Its limit is eight compilations of one function; a UNet has more widths than that."""
    assert torch._dynamo.config.recompile_limit < len(Wide.WIDTHS)
    kind = prove(build(Wide)).figures["blocks"]["transformer"]["Block"]
    assert kind["compilations"] == kind["shapes"] == kind["called"] == len(Wide.WIDTHS)


def test_past_the_limit_it_is_told_instead_of_running_eagerly():
    limited = torch._dynamo.config.patch(accumulated_recompile_limit=1, recompile_limit=1)
    expected = "compile_regional: expected one graph per block, .* FailOnRecompileLimitHit"
    with limited, pytest.raises(NotEffectiveError, match=expected):
        prove(build(Named))


def test_past_the_limit_blocks_that_run_eagerly_without_a_word_are_noticed(monkeypatch):
    """As they do where somebody compiles without ``fullgraph``."""
    with_options(monkeypatch, fullgraph=False)
    limited = torch._dynamo.config.patch(accumulated_recompile_limit=1, recompile_limit=1)
    expected = r"each call of transformer\.blocks\.3, found it in 0 of 1: the rest runs eagerly"
    with limited, pytest.raises(NotEffectiveError, match=expected):
        prove(build(Named))


class Breaking(Block):
    def forward(self, x):
        torch._dynamo.graph_break()
        return super().forward(x)


class WithBreaks(Named):
    BLOCK = Breaking
    _repeated_blocks = ("Breaking",)


def test_a_graph_break_in_a_block_is_told_with_its_place():
    with pytest.raises(NotEffectiveError, match="the first compiled call raised") as caught:
        prove(build(WithBreaks))
    assert "torch._dynamo.graph_break()" in str(caught.value)


def test_a_graph_break_in_a_block_is_noticed_without_fullgraph_too(monkeypatch):
    with_options(monkeypatch, fullgraph=False)
    with pytest.raises(NotEffectiveError, match=r"each call of transformer\.blocks\.0"):
        prove(build(WithBreaks))


class Counting(Block):
    reads_its_number = True


class OneByOne(Repeating):
    BLOCK = Counting


def test_blocks_that_compile_one_by_one_are_noticed():
    """Each is correct and compiled; all together they take as long as the whole denoiser."""
    expected = (
        "the 3 Counting of transformer that were called to share what is compiled, since they "
        "were given 1 shape, found 3 compilations"
    )
    with pytest.raises(NotEffectiveError, match=expected):
        prove(build(OneByOne))


class Skipping(Repeating):
    SKIPPED = (1,)


class SkippingAll(Repeating):
    SKIPPED = (0, 1, 2)


def test_blocks_that_a_call_leaves_out_are_told():
    assert "2 of 3 Block (1 compilation) of the transformer" in prove(build(Skipping)).found


def test_blocks_of_which_none_is_called_are_noticed():
    expected = "3 compiled blocks of transformer_2 to be called .* found no call of any"
    with pytest.raises(NotEffectiveError, match=expected):
        prove(build(Repeating, SkippingAll))


# --- What it does not fit, and where it is refused ------------------------------------------------


def test_a_denoiser_in_which_nothing_repeats_is_refused_with_its_name():
    pipeline = build(two_experts.Expert)
    before = snapshot(pipeline)
    expected = (
        "compile_regional is incompatible with TwoExperts: no block of its transformer, a Expert, "
        "repeats; no block of its transformer_2, .* use 'compile'"
    )
    with pytest.raises(IncompatibleError, match=expected):
        prove(pipeline)
    assert snapshot(pipeline) == before


def test_one_of_two_denoisers_in_which_nothing_repeats_is_told():
    proof = prove(build(Repeating, two_experts.Expert))
    assert "; not in the transformer_2: no block of its transformer_2, a Expert, re" in proof.found
    assert set(proof.figures["left"]) == {"transformer_2"}


def test_the_gpu_cost_of_blocks_is_not_that_of_a_compiled_denoiser():
    expected = "compile_regional compiles each block by itself, .*; count the stack with 'compile'"
    with pytest.raises(IncompatibleError, match=expected):
        compiled_by(techniques()[NAME], build())


def test_it_takes_the_modes_without_cuda_graphs():
    (technique,) = parse_stack(f"{NAME}(mode=max-autotune-no-cudagraphs)").techniques()
    assert not technique.replays_graphs
    choices = technique.parameters["mode"].choices
    assert set(choices).isdisjoint({"reduce-overhead", "max-autotune"})


def test_a_pinned_attention_kernel_finds_no_code_of_other_stacks(tiny, compilations, monkeypatch):
    """Which kernel torch may take is in none of dynamo's guards."""
    monkeypatch.setattr(CompileRegional, "backend", "inductor")
    for stack in (NAME, f"sdpa_math+{NAME}", f"sdpa_flash+{NAME}"):
        pipeline, call = tiny("transformer of few blocks")
        apply_stack(pipeline, stack, call=call)
    assert len(compilations) == 3 * 2  # a block of each kind
    twin, _ = tiny("transformer of few blocks")
    apply_stack(twin, NAME, call=call)
    assert len(compilations) == 3 * 2


def test_a_stack_with_it_is_proven_on_diffusers_own_blocks(tiny):
    pipeline, call = tiny("transformer")
    with third_party():
        image = call(pipeline)
    stack = f"channels_last+fused_qkv+sdpa_flash+{NAME}"
    proofs = {proof.technique: proof for proof in apply_stack(pipeline, stack, call=call).proofs}
    figures = proofs[NAME].figures
    kinds = figures["blocks"]["transformer"]
    assert {name: kind["called"] for name, kind in kinds.items()} == {
        "FluxTransformerBlock": 2,
        "FluxSingleTransformerBlock": 4,
    }
    assert {kind["compilations"] for kind in kinds.values()} == {1}
    assert figures["named_by"] == {"transformer": "diffusers"}
    attention = proofs["sdpa_flash"].figures["compiled_attention"]
    assert attention["transformer"] == {FLASH: 12}  # six blocks, two steps
    undo_stack(pipeline, stack)
    with third_party():
        assert torch.equal(call(pipeline), image)

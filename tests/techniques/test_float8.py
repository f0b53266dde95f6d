"""Dynamic float8: which layers are taken and why, what ran, and what is known to be slow."""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.adapters import torchao_internals
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    NotEffectiveError,
    NotUndoneError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.apply import running, undo_stack
from pytest_diffspeed.techniques.catalog.float8 import Fp8Dynamic
from pytest_diffspeed.techniques.float8_filter import derived
from pytest_diffspeed.techniques.observation import LinearCalls
from pytest_diffspeed.techniques.observe import OpCounter
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.technique import KnownSlowWarning

quiet = pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
WIDE = "tests.techniques.wide_flux:build"
PUT_BACK = "single_transformer_blocks.0.proj_out"


def linear(in_features, out_features, *rows):
    return LinearCalls(in_features, out_features, rows or (128,))


def wide():
    source = parse_source(WIDE)
    with third_party():
        pipeline = source.build()
    return pipeline, PipelineCall(pipeline, source.defaults(pipeline), "a fox")


@pytest.fixture(scope="module")
def by_tensor():
    pipeline, call = wide()
    with third_party():
        image = call(pipeline)
    with pytest.warns(KnownSlowWarning):
        applied = apply_stack(pipeline, "bf16+fp8_dynamic", call=call)
    return pipeline, call, applied, image


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (linear(1288, 1280), "1288 in_features, and torch._scaled_mm needs a multiple of 16"),
        (linear(1280, 4), "4 out_features, and torch._scaled_mm needs a multiple of 16"),
        (linear(1280, 1280, 4096, 16), "16 rows, too few for its product to take long"),
        (linear(64, 64), "32 multiply-adds for each element to convert, fewer than 64"),
        (linear(1280, 1280, 17), None),
    ],
)
def test_the_filter(layer, why):
    assert derived(layer) == why


def test_one_scale_for_a_weight_of_128_by_128_is_what_torchao_refuses():
    by_rows = Fp8Dynamic().with_arguments({"granularity": "row"})
    assert "takes for a block" in Fp8Dynamic().leaves(linear(128, 128))
    assert by_rows.leaves(linear(128, 128)) is None
    layer = torch.nn.Linear(128, 128, dtype=torch.bfloat16).requires_grad_(False)
    torchao_internals.quantize_float8_dynamic(layer, {""}, "tensor")
    with pytest.raises(AssertionError, match="1x128"):
        layer(torch.ones(32, 128, dtype=torch.bfloat16))


@pytest.mark.parametrize("granularity", ["tensor", "row"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_row_of_zeros_stays_one(granularity, dtype):
    """torchao of itself divides it by a scale of zero."""
    layer = torch.nn.Linear(64, 32, bias=False, dtype=dtype).requires_grad_(False)
    torchao_internals.quantize_float8_dynamic(layer, {""}, granularity)
    given = torch.ones(20, 64, dtype=dtype)
    given[3] = 0
    output = layer(given)
    assert torch.isfinite(output).all() and not output[3].any()
    assert torch.isfinite(layer(torch.zeros_like(given))).all()


def test_every_layer_that_is_taken_multiplied_in_float8_in_each_step(by_tensor):
    _, _, applied, _ = by_tensor
    proof = applied.proofs[1]
    figures = proof.figures
    assert figures["float8_products"] == 2 * figures["layers_taken"]  # once in each of two steps
    assert figures["flops_share"] > 0.5
    assert f"{figures['float8_products']} float8 products in 2 steps" in proof.found
    assert sum(row["flops_share"] for row in figures["taken"] + figures["left"]) == pytest.approx(1)
    reasons = {row["reason"] for row in figures["left"]}
    assert any("128 × 128 weights" in reason for reason in reasons)
    assert any("too few for its product" in reason for reason in reasons)


def test_the_weights_take_half_of_what_they_took_in_bfloat16(by_tensor):
    figures = by_tensor[2].proofs[1].figures
    scales = 4 * figures["layers_taken"]  # a float32 for each layer
    assert 2 * (figures["weight_bytes"] - scales) == figures["weight_bytes_before"]


def test_what_is_drawn_is_near_to_what_was_drawn_before(by_tensor):
    pipeline, call, applied, before = by_tensor
    with third_party(), running(applied.stack):
        image = call(pipeline)
    assert 0 < (image.float() - before).abs().mean() < 0.02


def test_it_cannot_be_undone_and_says_why(by_tensor):
    pipeline, _, applied, _ = by_tensor
    with pytest.raises(NotUndoneError, match="bf16 cannot be undone"):
        undo_stack(pipeline, applied.stack)
    with pytest.raises(NotUndoneError, match=r"fp8_dynamic .* rounded the weights to float8; b"):
        Fp8Dynamic().undo(pipeline)


@quiet
def test_scaled_by_rows_and_compiled_the_products_are_still_there(without_inductor):
    pipeline, call = wide()
    stack = "bf16+fp8_dynamic(granularity=row)+compile"
    applied = apply_stack(pipeline, stack, call=call)
    assert applied.known_slow == ()
    figures = applied.proofs[1].figures
    weight = pipeline.transformer.get_submodule(PUT_BACK).weight
    assert tuple(weight.scale.shape) == (weight.shape[0], 1)
    products = figures["compiled_products"]["transformer"]["_scaled_mm"]
    assert products == figures["float8_products"]


def test_rows_are_scaled_in_bfloat16_only():
    pipeline, call = wide()
    with pytest.raises(IncompatibleError, match="weights in bfloat16 only; add 'bf16'"):
        apply_stack(pipeline, "fp8_dynamic(granularity=row)", call=call)
    with pytest.raises(UnknownStackError, match="granularity"):
        parse_stack("fp8_dynamic(granularity=block)")


def test_the_published_slowdown_is_warned_of_unless_compiled(by_tensor):
    (sentence,) = by_tensor[2].known_slow
    assert "bf16+fp8_dynamic: quantized but not compiled" in sentence
    assert "8.62 s an image" in sentence and "6.57 s in bf16 (published)" in sentence
    assert Fp8Dynamic().known_slow(parse_stack("bf16+fp8_dynamic+compile").by_name) is None


# --- broken on purpose ----------------------------------------------------------------------------


@quiet
def test_layers_that_were_not_quantized_are_noticed(monkeypatch):
    pipeline, call = wide()
    monkeypatch.setattr(torchao_internals, "quantize_float8_dynamic", lambda *_: None)
    with pytest.raises(NotEffectiveError, match=r"float8 weights in \d+ linear .*found them in 0"):
        apply_stack(pipeline, "bf16+fp8_dynamic", call=call)


@quiet
def test_a_layer_that_multiplies_in_floats_is_named(monkeypatch):
    pipeline, call = wide()
    original = Fp8Dynamic.apply_seen

    def one_in_floats(self, pipe, observe):
        original(self, pipe, observe)
        layer = pipe.transformer.get_submodule(PUT_BACK)
        layer.forward = lambda x: torch.nn.functional.linear(
            x, layer.weight.dequantize(), layer.bias
        )

    monkeypatch.setattr(Fp8Dynamic, "apply_seen", one_in_floats)
    expected = rf"expected (\d+) float8 products .*; too few in transformer\.{PUT_BACK}$"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, "bf16+fp8_dynamic", call=call)


@quiet
def test_weights_of_zeros_are_told_before_they_are_an_image_of_nan():
    pipeline, call = wide()
    with torch.no_grad():
        pipeline.transformer.get_submodule(PUT_BACK).weight.zero_()
    expected = rf"all zeros have no scale in float8 and became NaN in transformer\.{PUT_BACK}$"
    with pytest.raises(NotEffectiveError, match=expected) as caught:
        apply_stack(pipeline, "bf16+fp8_dynamic", call=call)
    assert "the same in int8" in caught.value.next_step


def test_float8_products_are_counted_by_the_layer_that_ran_them():
    a = torch.ones(32, 16).to(torch.float8_e4m3fn)
    one = torch.ones(1, 1)
    with OpCounter() as watch:
        watch.inside.append(("denoiser", "proj", True))
        torch._scaled_mm(a, a.t(), one, one, out_dtype=torch.bfloat16)
        a.to(torch.bfloat16)
    part = watch.parts()["denoiser"]
    assert part.narrow_products == {"float8": {"proj": 1}}
    assert part.widened == {"float8": {"proj": 1}}
    assert part.gemms == 1 and not part.op_dtypes

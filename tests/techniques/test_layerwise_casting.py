"""Layerwise casting: weights in float8 between calls of their layers, and wide inside of them."""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import (
    NotEffectiveError,
    NotUndoneError,
    UncountableError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.gates.countable import require_eager
from pytest_diffspeed.pipelines.bare import why_not_bare
from pytest_diffspeed.pipelines.components import modules
from pytest_diffspeed.techniques.apply import running
from pytest_diffspeed.techniques.catalog.layerwise_casting import LayerwiseCasting
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.timing.simulated_memory import simulated_peak
from tests.techniques import two_experts

STACK = "layerwise_casting"


@pytest.fixture(scope="module")
def flux(tiny):
    pipeline, of_flux = tiny("transformer")
    return pipeline, of_flux, apply_stack(pipeline, "bf16+layerwise_casting", call=of_flux)


def test_each_layer_is_widened_for_its_own_call_and_narrow_afterwards(flux):
    pipeline, _, applied = flux
    precision, proof = applied.proofs
    assert "in torch.bfloat16" in precision.found  # computed there, although it is stored narrower
    figures = proof.figures
    model = figures["transformer"]
    assert figures["casts"] == 2 * figures["layers"]  # once in each of two steps
    assert "stored in float8_e4m3fn and computed in bfloat16" in proof.found
    narrow = [p for p in pipeline.transformer.parameters() if p.dtype is torch.float8_e4m3fn]
    kept = [p for p in pipeline.transformer.parameters() if p.dtype is torch.bfloat16]
    assert figures["weight_bytes"] == sum(p.nbytes for p in (*narrow, *kept))
    assert figures["weight_bytes_before"] - figures["weight_bytes"] == sum(p.nbytes for p in narrow)
    assert model["weight_bytes"] == figures["weight_bytes"]


def test_layers_that_diffusers_and_the_model_leave_are_listed(flux):
    pipeline, _, applied = flux
    model = applied.proofs[-1].figures["transformer"]
    assert set(pipeline.transformer._skip_layerwise_casting_patterns) <= set(model["patterns"])
    assert "transformer_blocks.0.norm1.linear" in model["left"] and "proj_out" in model["left"]
    weight = pipeline.transformer.get_submodule("transformer_blocks.0.norm1.linear").weight
    assert weight.dtype is torch.bfloat16
    assert f"{len(model['left'])} layers left" in applied.proofs[-1].found


def test_calls_do_not_drift(flux):
    pipeline, of_flux, applied = flux
    with third_party(), running(applied.stack):
        first, second = of_flux(pipeline), of_flux(pipeline)
    assert torch.isfinite(first).all() and torch.equal(first, second)


def test_both_experts_are_cast_and_the_vae_is_not():
    pipeline = two_experts.build()
    applied = apply_stack(pipeline, "layerwise_casting(storage=float8_e5m2)", call=two_experts.call)
    figures = applied.proofs[-1].figures
    assert {figures[name]["layers"] for name in ("transformer", "transformer_2")} == {7}
    assert pipeline.transformer_2.conv_mid.weight.dtype is torch.float8_e5m2
    assert pipeline.vae.dtype is torch.float32


def test_its_memory_is_counted_on_the_simulated_gpu():
    require_eager(parse_stack("bf16+layerwise_casting"))
    with pytest.raises(UncountableError, match="int8_weight_only cannot run on a simulated one"):
        require_eager(parse_stack("bf16+int8_weight_only"))
    plain, cast = two_experts.build(), two_experts.build()
    applied = apply_stack(cast, STACK, call=two_experts.call)
    images = []
    with third_party(), running(applied.stack):
        images.append(two_experts.call(cast))
        plain_peak, peak = (
            simulated_peak(lambda p=pipeline: two_experts.call(p), modules(pipeline))
            for pipeline in (plain, cast)
        )
        images.append(two_experts.call(cast))
    saved = applied.proofs[-1].figures["weight_bytes_before"]
    saved -= applied.proofs[-1].figures["weight_bytes"]
    assert plain_peak.weight_bytes - peak.weight_bytes == saved
    assert torch.equal(*images)  # counting left the weights where they were


def test_it_cannot_be_undone_and_says_why():
    with pytest.raises(
        NotUndoneError, match="it rounded the weights to float8; build the pipeline"
    ):
        LayerwiseCasting().undo(object())


@pytest.mark.parametrize("other", ["compile", "compile_max_autotune", "compile_regional"])
def test_it_is_not_compiled(other):
    with pytest.raises(UnknownStackError, match="dynamo traces none of that into one graph"):
        parse_stack(f"{other}+layerwise_casting")


def test_that_dynamo_does_not_trace_it_is_still_so(flux, fresh_dynamo):
    """The day it does, the contradiction can go."""
    pipeline, _, _ = flux
    layer = pipeline.transformer.x_embedder
    with pytest.raises(Exception, match="Parameter") as caught, torch.no_grad():
        torch.compile(layer, backend="eager", fullgraph=True)(torch.ones(4, layer.in_features))
    assert "Unsupported" in type(caught.value).__name__


def test_a_model_that_is_not_of_diffusers_is_refused():
    pipeline = two_experts.build()
    pipeline.transformer = torch.nn.Linear(4, 4)
    assert "its transformer has no enable_layerwise_casting" in LayerwiseCasting().incompatible(
        pipeline
    )


def test_a_model_of_which_everything_is_left_is_refused_by_its_proof():
    pipeline = two_experts.build()
    pipeline.transformer_2._skip_layerwise_casting_patterns = ["conv", "attention"]
    with pytest.raises(NotEffectiveError, match=r"layers of the transformer_2 .*all are left by"):
        apply_stack(pipeline, STACK, call=two_experts.call)


# --- broken on purpose ----------------------------------------------------------------------------


def broken(monkeypatch, after):
    """Two experts whose second one is changed by ``after`` once the technique was applied."""
    pipeline = two_experts.build()
    apply = LayerwiseCasting.apply

    def apply_and_break(self, pipe):
        apply(self, pipe)
        after(pipe.transformer_2.conv_mid)

    monkeypatch.setattr(LayerwiseCasting, "apply", apply_and_break)
    return pipeline


def test_a_hook_that_does_not_run_is_noticed(monkeypatch):
    def forward_without_hooks(layer):
        weight, bias = layer.weight.float(), layer.bias.float()
        layer.forward = lambda x: torch.nn.functional.conv2d(x, weight, bias, padding=1)

    pipeline = broken(monkeypatch, forward_without_hooks)
    with pytest.raises(NotEffectiveError, match=r"fewer casts than products in conv_mid"):
        apply_stack(pipeline, STACK, call=two_experts.call)


def test_weights_that_stay_wide_are_noticed(monkeypatch):
    def widen_for_good(layer):
        torch.nn.Module.to(layer, torch.float32)
        layer.forward = lambda x: torch.nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)

    pipeline = broken(monkeypatch, widen_for_good)
    expected = r"weights of the transformer_2 in float8_e4m3fn between .* others in conv_mid"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(pipeline, STACK, call=two_experts.call)


def test_weights_that_do_not_fit_into_float8_are_told_with_what_would_hold_them():
    pipeline = two_experts.build()
    with torch.no_grad():
        pipeline.transformer.conv_mid.weight[0, 0, 0, 0] = 500.0  # e4m3 ends at 448
    with pytest.raises(
        NotEffectiveError, match=r"beyond 448, where float8_e4m3fn ends, in conv_mid"
    ) as e:
        apply_stack(pipeline, STACK, call=two_experts.call)
    assert "float8_e5m2" in e.value.next_step


def test_a_source_that_has_it_already_is_no_baseline():
    pipeline = two_experts.build()
    pipeline.transformer.enable_layerwise_casting(compute_dtype=torch.float32)
    assert "diffusers' hook 'layerwise_casting' on 7 modules" in why_not_bare(pipeline)

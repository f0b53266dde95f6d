"""Weights in 8 bits alone: converted back in each call, and fewer bytes in between."""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.catalog import cpu
from pytest_diffspeed.adapters import torchao_internals
from pytest_diffspeed.common.errors import NotEffectiveError, NotUndoneError, UnknownStackError
from pytest_diffspeed.techniques.catalog import weight_only
from pytest_diffspeed.techniques.catalog.weight_only import Fp8WeightOnly, Int8WeightOnly
from pytest_diffspeed.techniques.observation import LinearCalls
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.technique import KnownSlowWarning
from tests.techniques import two_experts

quiet = pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
BOTH = pytest.mark.parametrize(
    ("name", "kind"), [("int8_weight_only", "int8"), ("fp8_weight_only", "float8")]
)


@pytest.fixture
def experts(monkeypatch):
    """Two experts, whose layers are narrower than pays."""
    monkeypatch.setattr(weight_only, "LEAST_IN_FEATURES", 1)
    return two_experts.build()


@quiet
@BOTH
def test_each_weight_of_both_experts_is_converted_back_in_each_call(name, kind, experts):
    proof = apply_stack(experts, name, call=two_experts.call).proofs[-1]
    figures = proof.figures
    assert figures["layers_taken_in"] == {"transformer": 4, "transformer_2": 4, "vae": 0}
    assert f"products with weights out of {kind}" in proof.found
    layer = experts.transformer_2.attention.to_q
    held = sum(getattr(layer.weight, name).nbytes for name in layer.weight.__tensor_flatten__()[0])
    assert figures["weight_bytes"] == 8 * held < figures["weight_bytes_before"] == 8 * 16 * 16 * 4


def test_a_row_of_few_weights_is_left():
    layer = LinearCalls(31, 64, (1,))
    assert Int8WeightOnly().leaves(layer).startswith("31 in_features, and fewer than 32 hardly pay")
    assert Int8WeightOnly().leaves(LinearCalls(32, 8, (1,))) is None


@BOTH
def test_what_is_published_of_their_speed_is_told_compiled_or_not(name, kind, experts):
    with pytest.warns(KnownSlowWarning, match=r"against 6\.57 s in bf16 \(published\)"):
        apply_stack(experts, name, call=two_experts.call)
    technique = {"int8": Int8WeightOnly(), "float8": Fp8WeightOnly()}[kind]
    compiled = technique.known_slow(parse_stack(f"bf16+{name}+compile").by_name)
    assert "against 4.21 s in bf16 (published); keep it for the memory" in compiled


def test_what_is_quantized_already_is_not_quantized_again():
    for pair in ("int8_weight_only+fp8_weight_only", "int8_dynamic+int8_weight_only"):
        with pytest.raises(UnknownStackError, match="both of the family 'quantization'"):
            parse_stack(pair)
    for offload in ("group_offload", "model_offload"):
        with pytest.raises(
            UnknownStackError, match="quantized weights are made of several tensors"
        ):
            parse_stack(f"fp8_weight_only+{offload}")


@BOTH
def test_it_cannot_be_undone_and_says_why(name, kind):
    technique = {"int8": Int8WeightOnly(), "float8": Fp8WeightOnly()}[kind]
    with pytest.raises(NotUndoneError, match=f"rounded the weights to {kind}; build the pipeline"):
        technique.undo(object())


@quiet
@BOTH
def test_a_model_keeps_what_it_keeps_in_float32(name, kind, experts):
    experts.transformer._keep_in_fp32_modules = ["to_q"]
    figures = apply_stack(experts, name, call=two_experts.call).proofs[-1].figures
    assert figures["layers_taken_in"]["transformer"] == 3
    assert "float32 by its own word" in str(figures["left"])


def test_without_kernels_for_float8_it_is_refused_compiled_only(monkeypatch):
    monkeypatch.setattr(cpu.Cpu, "features", frozenset())
    device = cpu.Cpu().device("cpu", None)
    compiled, eager = parse_stack("fp8_weight_only+compile"), parse_stack("fp8_weight_only")
    why = Fp8WeightOnly().incompatible_with_stack(compiled.by_name, device)
    assert "nothing is known of its products in float8; leave compiling out" in why
    assert Fp8WeightOnly().incompatible_with_stack(eager.by_name, device) is None


# --- broken on purpose ----------------------------------------------------------------------------


@quiet
@BOTH
def test_an_expert_whose_layer_was_put_back_is_named(name, kind, experts, monkeypatch):
    quantize = getattr(torchao_internals, f"quantize_{kind}_weight_only")

    def all_but_one(module, paths):
        quantize(module, paths - {"attention.to_q"} if module is experts.transformer_2 else paths)

    monkeypatch.setattr(torchao_internals, f"quantize_{kind}_weight_only", all_but_one)
    expected = rf"{kind} weights in 8 .* in 7; without: transformer_2\.attention\.to_q"
    with pytest.raises(NotEffectiveError, match=expected):
        apply_stack(experts, name, call=two_experts.call)


@quiet
@BOTH
def test_quantized_weights_that_no_product_used_are_noticed(name, kind, experts, monkeypatch):
    quantize = getattr(torchao_internals, f"quantize_{kind}_weight_only")

    def and_keep_wide_copies(module, paths):
        wide = {path: module.get_submodule(path).weight for path in paths}
        quantize(module, paths)
        for path, weight in wide.items():
            layer = module.get_submodule(path)
            layer.forward = lambda x, w=weight, one=layer: torch.nn.functional.linear(
                x, w, one.bias
            )

    monkeypatch.setattr(torchao_internals, f"quantize_{kind}_weight_only", and_keep_wide_copies)
    with pytest.raises(NotEffectiveError, match=f"products with {kind} weights of the transformer"):
        apply_stack(experts, name, call=two_experts.call)

"""Dynamic int8: which layers are taken and why, what ran, and what is known to be slow."""

import builtins
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._higher_order_ops.out_dtype import out_dtype

from pytest_diffspeed import apply_stack
from pytest_diffspeed.adapters import torchao_internals
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    NotEffectiveError,
    UnknownStackError,
    UsageError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.catalog.quantization import Int8Dynamic, Int8DynamicSdxl
from pytest_diffspeed.techniques.int8_filter import (
    PUBLISHED_SDXL_LEFT,
    derived,
    published_sdxl,
    torch_refuses,
)
from pytest_diffspeed.techniques.observation import LinearCalls, Observation
from pytest_diffspeed.techniques.observe import OpCounter
from pytest_diffspeed.techniques.quantized_linears import _by_flops
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.techniques.technique import KnownSlowWarning

quiet = pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")


def linear(in_features, out_features, *rows):
    return LinearCalls(in_features, out_features, rows or (128,))


# --- the filters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (linear(1280, 1280, 16), "16 rows, and torch._int_mm needs more than 16"),
        (linear(1280, 1280, 4096, 2), "2 rows"),  # the least of its calls decides
        (linear(1284, 1280), "1284 in_features, and torch._int_mm needs a multiple of 8"),
        (linear(1280, 4), "4 out_features, and torch._int_mm needs a multiple of 8"),
        (linear(64, 64), "32 multiply-adds for each element to convert, fewer than 64"),
        (linear(1280, 1280, 17), None),
        (linear(128, 128), None),
    ],
)
def test_the_derived_filter(layer, why):
    reason = derived(layer)
    assert reason == why or (reason is not None and why is not None and why in reason)


@given(st.integers(1, 64), st.integers(1, 512), st.integers(1, 512), st.lists(st.integers(1, 64)))
def test_what_the_derived_filter_takes_torch_takes_too(rows, fan_in, fan_out, more):
    layer = LinearCalls(fan_in, fan_out, (rows, *more))
    assert derived(layer) is not None or torch_refuses(layer) is None


def test_the_published_list():
    assert len(PUBLISHED_SDXL_LEFT) == 19
    assert published_sdxl(linear(640, 5120)) == "on the published list of shapes that lose"
    assert published_sdxl(linear(16, 1280)).startswith("16 in_features")
    assert published_sdxl(linear(1280, 10240)) is None
    assert published_sdxl(linear(1280, 1280)) is None


# --- on pipelines ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo():
    """The demo pipeline in bf16 with int8, proven; it is not changed by the tests below."""
    source = parse_source("demo")
    with third_party():
        pipeline = source.build()
    call = PipelineCall(pipeline, source.defaults(pipeline).overridden(steps=2), "a red apple")
    with pytest.warns(KnownSlowWarning):
        applied = apply_stack(pipeline, "bf16+int8_dynamic", call=call)
    return pipeline, applied


def test_on_the_demo_pipeline_it_takes_most_of_the_linear_flops(demo):
    _, applied = demo
    figures = applied.proofs[1].figures
    assert figures["flops_share"] >= 0.5
    assert figures["int8_products"] == 2 * figures["layers_taken"]  # once in each of two steps
    shares = [row["flops_share"] for row in figures["taken"] + figures["left"]]
    assert sum(shares) == pytest.approx(1.0)
    assert figures["taken"][0]["flops_share"] == max(shares)


def test_every_shape_is_listed_however_many_there_are():
    linears = {f"denoiser.{n}": linear(8 * n, 64) for n in range(1, 31)}
    left = dict.fromkeys(linears)
    rows = _by_flops(linears, left, sum(layer.flops for layer in linears.values()))
    assert [row["in_features"] for row in rows] == [8 * n for n in range(30, 0, -1)]
    assert sum(row["layers"] for row in rows) == 30


def test_every_layer_that_is_left_has_its_reason(demo):
    pipeline, applied = demo
    for row in applied.proofs[1].figures["left"]:
        assert "torch._int_mm needs" in row["reason"] or "multiply-adds" in row["reason"]
    weight = pipeline.unet.time_embedding.linear_1.weight  # two rows: one for each of guidance
    assert type(weight) is torch.nn.Parameter and weight.dtype is torch.bfloat16


def test_the_preset_is_chosen_by_name(pipeline, call):
    with pytest.warns(KnownSlowWarning):
        applied = apply_stack(pipeline, "int8_dynamic_sdxl", call=call)
    figures = applied.proofs[0].figures
    fan_ins = {row.get("in_features") for row in figures["left"]}
    assert fan_ins and all(fan_in <= 16 for fan_in in fan_ins)
    assert figures["taken"]


@pytest.mark.parametrize("default", [1, 2])
def test_the_tensors_that_are_recognized_are_the_ones_that_are_made(default, monkeypatch):
    """Up to 0.17 torchao makes other ones unless ``version=2`` is said."""
    said = []

    class Config:
        def __init__(self, set_inductor_config=True, version=default):
            said.append((set_inductor_config, version))

    names = SimpleNamespace(
        quantize_=lambda *_, **__: None,
        Int8DynamicActivationInt8WeightConfig=Config,
        Int8WeightOnlyConfig=Config,
        Float8WeightOnlyConfig=Config,
    )
    monkeypatch.setattr(torchao_internals, "_names", lambda: names)
    torchao_internals.quantize_int8_dynamic(torch.nn.Linear(8, 8), {""})
    torchao_internals.quantize_int8_weight_only(torch.nn.Linear(8, 8), {""})
    torchao_internals.quantize_float8_weight_only(torch.nn.Linear(8, 8), {""})
    assert said == [(False, 2)] * 3


def test_two_presets_contradict_each_other():
    with pytest.raises(UnknownStackError, match=r"'int8_dynamic' and 'int8_dynamic_sdxl' .*keep"):
        parse_stack("int8_dynamic+int8_dynamic_sdxl")


@quiet
def test_the_published_slowdown_is_warned_of_unless_compiled(pipeline, call, monkeypatch):
    expected = r"bf16\+int8_dynamic_sdxl: .* 119\.7 s an image .* 6\.57 s in bf16 .*add 'compile'"
    with pytest.warns(KnownSlowWarning, match=expected):
        applied = apply_stack(pipeline, "bf16+int8_dynamic_sdxl", call=call)
    assert len(applied.known_slow) == 1
    assert Int8Dynamic().known_slow(parse_stack("bf16+int8_dynamic+compile").by_name) is None
    assert (
        Int8Dynamic().known_slow(parse_stack("int8_dynamic+compile_max_autotune").by_name) is None
    )


def test_torchao_leaves_inductors_configuration_alone(demo):
    import torch._inductor.config as inductor

    assert not inductor.force_fuse_int_mm_with_mul
    assert not inductor.coordinate_descent_tuning


# --- broken on purpose ----------------------------------------------------------------------------


@quiet
def test_a_filter_that_matches_nothing_does_not_fit(pipeline, call, monkeypatch):
    monkeypatch.setattr(Int8DynamicSdxl, "leaves", lambda self, layer: "a whim")
    expected = r"takes none of \d+ linear layers; the one with most FLOPs, unet\..*for a whim"
    with pytest.raises(IncompatibleError, match=expected):
        apply_stack(pipeline, "int8_dynamic_sdxl", call=call)
    assert not any(
        torchao_internals.is_quantized(m, "int8", dynamic=True) for m in pipeline.unet.modules()
    )


@quiet
def test_layers_that_were_not_quantized_are_noticed(pipeline, call, monkeypatch):
    monkeypatch.setattr(torchao_internals, "quantize_int8_dynamic", lambda module, paths: None)
    with pytest.raises(NotEffectiveError, match=r"int8 weights in \d+ linear .*found them in 0"):
        apply_stack(pipeline, "int8_dynamic_sdxl", call=call)


@quiet
def test_int8_weights_without_int8_products_are_noticed(pipeline, call, monkeypatch):
    original = Int8DynamicSdxl.apply_seen

    def multiplies_in_floats(self, pipe, observe):
        original(self, pipe, observe)
        for module in pipe.unet.modules():
            if torchao_internals.is_quantized(module, "int8", dynamic=True):
                module.forward = lambda x, m=module: torch.nn.functional.linear(
                    x, m.weight.dequantize().to(x.dtype), m.bias
                )

    monkeypatch.setattr(Int8DynamicSdxl, "apply_seen", multiplies_in_floats)
    with pytest.raises(
        NotEffectiveError, match=r"\d+ int8 products of the unet in 2 steps, f.*; too"
    ):
        apply_stack(pipeline, "int8_dynamic_sdxl", call=call)


@quiet
def test_on_cuda_rows_that_torch_refuses_do_not_fit(pipeline, call, monkeypatch):
    """The published list goes by features alone; the tiny pipeline has layers with two rows."""
    with third_party():
        on_cuda = torch.nn.Linear(1, 1)
    monkeypatch.setattr(
        type(pipeline.unet), "parameters", lambda self: iter([OnCuda(on_cuda.weight)])
    )
    linears = {"unet.time_embedding.linear_1": linear(32, 32, 2)}

    with pytest.raises(IncompatibleError, match=r"time_embedding\.linear_1, which has 2 rows"):
        Int8DynamicSdxl().apply_seen(pipeline, lambda: Observation(linears=linears))


class OnCuda(torch.nn.Parameter):
    @property
    def device(self):
        return torch.device("cuda")


def test_applied_without_a_call_it_says_what_to_do(pipeline):
    with pytest.raises(UsageError, match="chooses layers by a call; use pytest_diffspeed"):
        Int8Dynamic().apply(pipeline)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModuleNotFoundError("No module", name="torchao"), "run `pip install torchao`"),
        (ImportError("cannot import name 'Int8Tensor'"), "this torchao lacks what is used of it"),
    ],
)
def test_without_a_usable_torchao_it_does_not_fit(error, sentence, pipeline, call, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "torchao.quantization":
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(IncompatibleError, match=sentence):
        apply_stack(pipeline, "int8_dynamic+compile", call=call)


# --- what is counted ------------------------------------------------------------------------------


def test_int8_products_on_cuda_are_counted():
    """There torchao multiplies by a higher-order operator.  A mode that does not say that it
    supports those makes torch raise, and torchao then multiplies in float32 without a word.
    """
    a = torch.ones(32, 16, dtype=torch.int8)
    with OpCounter() as watch:
        watch.inside.append(("denoiser", "", False))
        out_dtype(torch.ops.aten.mm.default, torch.int32, a, a.t())
        torch.ops.aten._int_mm(a, a.t())
    assert watch.parts()["denoiser"].narrow_products == {"int8": {"": 2}}
    assert not watch.op_dtypes


def test_int8_products_that_torch_refuses_are_not_counted():
    """Torchao catches what the refusal raises, and multiplies in float32 without a word."""
    a = torch.ones(32, 16, dtype=torch.int8)
    with OpCounter() as watch:
        watch.inside.append(("denoiser", "", False))
        with pytest.raises(RuntimeError):
            torch.ops.aten._int_mm(a, a)  # inner sizes differ
        a.float() @ a.t().float()
    assert not watch.parts()["denoiser"].narrow_products
    assert watch.op_dtypes == {"denoiser": {"torch.float32": 1}}


def test_bilinear_upsampling_is_no_matrix_product():
    with OpCounter() as watch:
        watch.inside.append(("vae", "", False))
        torch.nn.functional.interpolate(torch.ones(1, 1, 4, 4), scale_factor=2, mode="bilinear")
        torch.nn.functional.linear(torch.ones(2, 4), torch.ones(3, 4))
    part = watch.parts()["vae"]
    assert part.gemms == 1
    assert part.op_dtypes == {"torch.float32": 1}


def test_no_warning_where_nothing_is_slow(pipeline, call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert apply_stack(pipeline, "bf16", call=call).known_slow == ()

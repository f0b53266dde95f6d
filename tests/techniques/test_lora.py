"""``lora(FILE)``: the adapter's products ran beside each layer, or are in its weights."""

import importlib.metadata
import json
import re

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.arms.gpu_cost.stack import apply_to_fakes
from pytest_diffspeed.common.errors import (
    IncompatibleError,
    NotEffectiveError,
    NotUndoneError,
    SourceError,
    UnknownStackError,
)
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines import lora
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.cases import CallDefaults
from pytest_diffspeed.pipelines.pipeline_state import pipeline_state
from pytest_diffspeed.techniques.apply import undo_stack
from pytest_diffspeed.techniques.catalog.quantization import Int8Dynamic
from pytest_diffspeed.techniques.stacks import Stack, meant_by, parse_stack
from tests.copying_pipeline import build
from tests.lora_files import save_lora, swaps_any_rank

UNET = "unet of few blocks"
COMPONENTS = {"unet": "unet", "transformer": "transformer"}


@pytest.fixture(scope="module")
def adapters(tiny, tmp_path_factory):
    """A folder with adapters: ``unet`` and ``transformer`` of a pipeline of that kind,
    ``convolutions`` of the former, and ``zeros``, which add nothing.
    """
    folder = tmp_path_factory.mktemp("adapters")
    for kind, component in COMPONENTS.items():
        pipeline = tiny(f"{kind} of few blocks")[0]
        save_lora(pipeline, folder / kind, component=component)
        if kind == "unet":
            both = ("conv1", "to_q")
            save_lora(pipeline, folder / "convolutions", rank=8, alpha=4, targets=both)
            save_lora(pipeline, folder / "zeros", size=0.0)
            save_lora(pipeline, folder / "larger", rank=8, alpha=16, seed=1)
            save_lora(pipeline, folder / "smaller", rank=2, targets=["to_q"], seed=1)
    return folder


@pytest.fixture(autouse=True)
def _there(adapters, monkeypatch):
    monkeypatch.chdir(adapters)


@pytest.mark.parametrize("kind", COMPONENTS)
def test_products_of_the_adapter_run_beside_its_layers_until_it_is_undone(kind, tiny):
    pipeline, call = tiny(f"{kind} of few blocks")
    asked = [w.requires_grad for w in pipeline.components[kind].parameters()]
    with third_party():
        image = call(pipeline)
    (proof,) = apply_stack(pipeline, f"lora({kind})", call=call).proofs
    figures = proof.figures
    assert figures["layers"] == figures["layers_in"][kind] > 0
    # Two products of each layer in each of two steps; guidance is in the batch.
    assert figures["products"] == 2 * 2 * figures["layers"]
    assert 0 < figures["linears_touched"] == figures["layers"] < figures["linears"]
    assert f"({figures['layers']} in the {kind})" in proof.found
    assert json.loads(json.dumps(vars(proof))) == vars(proof)
    with third_party():
        assert not torch.allclose(call(pipeline), image, atol=1e-3)
    undo_stack(pipeline, f"lora({kind})")
    with third_party():
        assert torch.equal(call(pipeline), image)
    assert asked == [w.requires_grad for w in pipeline.components[kind].parameters()]


def test_merged_it_draws_the_same_by_one_product(tiny):
    pipeline, call = tiny(UNET)
    apply_stack(pipeline, "lora(unet,scale=0.5)", call=call)
    with third_party():
        beside = call(pipeline)
    pipeline, call = tiny(UNET)
    (proof,) = apply_stack(pipeline, "lora(unet, scale=0.5, fused=True)", call=call).proofs
    assert proof.figures["layers"] == proof.figures["layers_in"]["unet"] > 0
    assert (proof.figures["products"], proof.figures["layers_not_run"]) == (0, 0)
    assert not lora.loaded_places(pipeline)
    with third_party():
        torch.testing.assert_close(call(pipeline), beside, rtol=0, atol=1e-4)
    with pytest.raises(NotUndoneError, match="lora cannot be undone: it rounded the weights"):
        undo_stack(pipeline, "lora(unet,scale=0.5,fused=True)")


@pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
def test_what_comes_after_it_is_done_to_the_adapter_too(tiny, monkeypatch):
    monkeypatch.setattr(Int8Dynamic, "leaves", lambda self, linear: None)
    pipeline, call = tiny(UNET)
    stack = "int8_dynamic+bf16+lora(convolutions,scale=0.5,target_rank=16)+channels_last"
    applied = apply_stack(pipeline, stack, call=call)
    assert [p.technique for p in applied.proofs] == [
        "lora",
        "bf16",
        "channels_last",
        "int8_dynamic",
    ]
    found = applied.proofs[0]
    assert "; prepared for others up to rank 16" in found.found
    # Half of its layers are convolutions.
    assert 0 < found.figures["linears_touched"] < found.figures["layers"]
    products = [
        product
        for layer in lora._all_layers(pipeline)
        for product in (layer.lora_A["lora"], layer.lora_B["lora"])
    ]
    assert {product.weight.dtype for product in products} == {torch.bfloat16}
    scalings = [layer.scaling["lora"] for layer in lora._all_layers(pipeline)]
    assert all(isinstance(one, torch.Tensor) and float(one) == 0.25 for one in scalings)


def test_a_rank_that_is_too_low_is_told_and_leaves_nothing(tiny):
    """What diffusers was told to prepare for would fail the next adapter as well."""
    pipeline, call = tiny(UNET)
    with pytest.raises(IncompatibleError, match=r"cannot be loaded: ValueError: .*rank"):
        apply_stack(pipeline, "lora(unet,target_rank=2)", call=call)
    apply_stack(pipeline, "lora(unet)", call=call)
    assert {type(layer.scaling["lora"]) for layer in lora._all_layers(pipeline)} == {float}


def test_merged_it_can_be_fused_with_others(tiny):
    pipeline, call = tiny(UNET)
    applied = apply_stack(pipeline, "fused_qkv+lora(unet,fused=True)", call=call)
    assert [proof.technique for proof in applied.proofs] == ["lora", "fused_qkv"]
    assert applied.proofs[0].figures["layers_not_run"] == 0


def test_layers_of_text_encoders_are_counted_too(tiny, adapters):
    from safetensors.torch import load_file, save_file

    pipeline, call = tiny(UNET)
    (file,) = (adapters / "unet").glob("*.safetensors")
    weights = load_file(file)
    encoder = pipeline.text_encoder
    paths = [path for path, _ in encoder.named_modules() if path.endswith("q_proj")]
    for path in paths:
        layer = encoder.get_submodule(path)
        weights[f"text_encoder.{path}.lora_A.weight"] = torch.ones(2, layer.in_features)
        weights[f"text_encoder.{path}.lora_B.weight"] = torch.ones(layer.out_features, 2)
    save_file(weights, "both.safetensors")
    (proof,) = apply_stack(pipeline, "lora(both.safetensors)", call=call).proofs
    assert proof.figures["layers_in"]["text_encoder"] == len(paths) > 0
    with pytest.raises(SourceError, match="for the text_encoder too, and diffusers swaps adapt"):
        lora.hot_swap(pipeline, "both.safetensors")
    undo_stack(pipeline, "lora(both.safetensors)")
    assert not lora.loaded_places(pipeline)
    assert "did not run" not in proof.found
    with third_party():
        of_the_encoders = pipeline.encode_prompt("a fox")
    names = ("", "negative_", "pooled_", "negative_pooled_")
    given = {f"{n}prompt_embeds": one for n, one in zip(names, of_the_encoders, strict=True)}

    def without_encoders(pipeline, steps=1):
        return pipeline(**given, num_inference_steps=steps, height=16, width=16)

    (proof,) = apply_stack(pipeline, "lora(both.safetensors)", call=without_encoders).proofs
    assert f"; {len(paths)} more layers did not run: text_encoder." in proof.found
    undo_stack(pipeline, "lora(both.safetensors)")
    (proof,) = apply_stack(pipeline, "lora(both.safetensors,fused=True)", call=call).proofs
    assert proof.figures["layers_not_watched"] == len(paths)
    assert f"{len(paths)} more in text encoders, whose calls are not watched" in proof.found


def test_a_file_of_16_bits_is_float32_in_the_baseline(tiny, adapters):
    from safetensors.torch import load_file, save_file

    (file,) = (adapters / "unet").glob("*.safetensors")
    halves = {name: weight.half() for name, weight in load_file(file).items()}
    save_file(halves, "halves.safetensors")
    pipeline, call = tiny(UNET)
    apply_stack(pipeline, "lora(halves.safetensors)", call=call)
    assert {weight.dtype for weight in pipeline.unet.parameters()} == {torch.float32}


# --- that it is proven, not believed


def test_an_adapter_that_adds_nothing_is_no_effect(tiny):
    pipeline, call = tiny(UNET)
    with pytest.raises(
        NotEffectiveError, match="something to a layer of the unet, found weights or sc"
    ):
        apply_stack(pipeline, "lora(zeros)", call=call)
    assert not lora.loaded_places(pipeline)  # a stack that fails is undone


@pytest.mark.parametrize("how", ["disable_lora", "fuse_lora", "unload_lora_weights"])
def test_an_adapter_that_does_not_run_is_found_out(how, tiny, monkeypatch):
    original = lora.load

    def loading(pipeline, *args, **more):
        original(pipeline, *args, **more)
        getattr(pipeline, how)(**({"components": ["unet"]} if how == "fuse_lora" else {}))

    monkeypatch.setattr(lora, "load", loading)
    pipeline, call = tiny(UNET)
    with pytest.raises(NotEffectiveError, match=r"lora\(unet\): expected both products of the ad"):
        apply_stack(pipeline, "lora(unet)", call=call)


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ("fuse_lora", r"found \d+ layers with the weights of before: unet\."),
        ("unload_lora_weights", r"found it beside unet\."),
    ],
)
def test_a_merge_that_did_not_happen_is_found_out(lacking, told, tiny, monkeypatch):
    pipeline, call = tiny(UNET)
    monkeypatch.setattr(type(pipeline), lacking, lambda self, **more: None)
    with pytest.raises(NotEffectiveError, match=told):
        apply_stack(pipeline, "lora(unet,fused=True)", call=call)


# --- what is refused


def refused(pipeline, call, stack):
    with pytest.raises(IncompatibleError) as error:
        apply_stack(pipeline, stack, call=call)
    assert not lora.loaded_places(pipeline)
    return str(error.value)


def test_files_that_are_no_adapter_of_this_model(tiny, adapters):
    pipeline, call = tiny(UNET)
    assert "there is no adapter nothing.safetensors: no such file" in refused(
        pipeline, call, "lora(nothing.safetensors)"
    )
    told = refused(pipeline, call, "lora(transformer)")
    assert "the adapter transformer is for " in told
    assert "layers that the pipeline does not have (transformer." in told
    (adapters / "broken.safetensors").write_bytes(b"no weights")
    told = refused(pipeline, call, "lora(broken.safetensors)")
    assert "the adapter broken.safetensors cannot be read: " in told
    torch.save({"unet.conv_in.lora_A.weight": torch.zeros(1)}, adapters / "pickle.bin")
    assert "the adapter pickle.bin cannot be read: " in refused(pipeline, call, "lora(pickle.bin)")


def test_one_layer_too_many_is_named(tiny, adapters):
    """Diffusers logs a warning and goes on without it."""
    from safetensors.torch import load_file, save_file

    (file,) = (adapters / "unet").glob("*.safetensors")
    weights = load_file(file)
    weights["unet.mid_block.nobody.lora_A.weight"] = torch.ones(4, 8)
    weights["unet.mid_block.nobody.lora_B.weight"] = torch.ones(8, 4)
    save_file(weights, "more.safetensors")
    told = refused(*tiny(UNET), "lora(more.safetensors)")
    assert "is for 1 layer that the pipeline does not have (unet.mid_block.nobody)" in told


def test_an_adapter_that_the_source_has_loaded_is_not_loaded_over(tiny):
    pipeline, call = tiny(UNET)
    with third_party():
        pipeline.load_lora_weights("unet")
    with pytest.raises(IncompatibleError, match="its source has loaded an adapter already"):
        apply_stack(pipeline, "lora(unet)", call=call)
    with pytest.raises(IncompatibleError, match=r"an adapter \(LoRA\) is loaded on \d+ project"):
        apply_stack(pipeline, "fused_qkv", call=call)


def test_pipelines_that_take_none_and_environments_without_peft(tiny, monkeypatch):
    with third_party():
        pipeline = build()
    call = PipelineCall(pipeline, CallDefaults((), 2))
    assert "loads no LoRA into pipelines of this class" in refused(pipeline, call, "lora(unet)")
    monkeypatch.setattr("diffusers.utils.USE_PEFT_BACKEND", False)
    told = refused(*tiny(UNET), "lora(unet)")
    assert 'which is not installed: pip install "pytest-diffspeed[lora]"' in told


def test_a_gpu_cost_is_counted_without_weights_so_without_adapters():
    with pytest.raises(
        IncompatibleError, match=r"lora\(a\): an adapter is weights, and a GPU cost"
    ):
        apply_to_fakes(parse_stack("lora(a)+bf16"), None, None, None, lambda: None)


@pytest.mark.parametrize(
    ("stack", "told"),
    [
        ("lora", "'lora' takes the file of an adapter first; write for example 'lora(adapter."),
        ("lora(a,scale=0)", "scale of 'lora' cannot be 0: the adapter would be off"),
        ("lora(a,fused=True,target_rank=4)", "merged into the weights cannot be swapped"),
        ("lora(a,target_rank=-1)", "target_rank of 'lora' must be at least 1, not -1"),
        ("lora(a)+lora(b)", "names 'lora' twice"),
        ("lora(a)+fused_qkv", "without the adapter beside them; merge it first, lora(…,fused=Tr"),
    ],
)
def test_what_makes_no_sense_is_told_when_tests_are_collected(stack, told):
    with pytest.raises(UnknownStackError) as error:
        parse_stack(stack)
    assert told in str(error.value)


def test_a_peft_that_does_not_know_the_installed_torchao_is_told(tiny, monkeypatch):
    """Before anything is loaded: peft would raise at the first layer."""
    from peft.import_utils import is_torchao_available

    version = importlib.metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "0.1" if name == "torchao" else version(name)
    )
    is_torchao_available.cache_clear()
    try:
        why = lora.why_not(tiny(UNET)[0])
    finally:
        is_torchao_available.cache_clear()
    assert re.match(r"peft \S+ does not work beside torchao \S+ \(Found an incompatible ver", why)
    assert "): peft 0.19 and later need torchao 0.16 or newer" in why


# --- swapping another one in (what compiles again: tests/compilation/test_lora_swaps.py)


@pytest.mark.parametrize("stack", ["lora(unet,scale=.5)", "lora(unet,scale=.5,target_rank=8)"])
def test_an_adapter_is_swapped_in_and_the_first_one_put_back_to_the_bit(stack, tiny):
    images = {}
    for name in ("larger", "smaller"):
        pipeline, call = tiny(UNET)
        apply_stack(pipeline, f"lora({name},scale=.5)", call=call)
        with third_party():
            images[name] = call(pipeline)
    pipeline, call = tiny(UNET)
    apply_stack(pipeline, stack, call=call)
    proven = pipeline_state(pipeline)
    with third_party():
        image = call(pipeline)
        with lora.kept(pipeline):
            for name, expected in images.items():
                if name == "larger" and "target_rank" not in stack and not swaps_any_rank():
                    continue
                lora.hot_swap(pipeline, name, scale=0.5)
                torch.testing.assert_close(call(pipeline), expected, rtol=0, atol=1e-5)
        assert torch.equal(call(pipeline), image)
    assert pipeline_state(pipeline) == proven
    undo_stack(pipeline, stack)


def test_before_peft_0_19_a_higher_rank_needs_preparation(tiny):
    if swaps_any_rank():
        pytest.skip("peft exchanges the weights since 0.19")
    pipeline, call = tiny(UNET)
    apply_stack(pipeline, "lora(unet)", call=call)
    with (
        lora.kept(pipeline),
        pytest.raises(SourceError, match=r"; prepare hot-swapping: lora\(…,target_rank=N\)$"),
    ):
        lora.hot_swap(pipeline, "larger")


def test_what_cannot_be_swapped_in_is_named_and_changes_nothing(tiny):
    pipeline, call = tiny(UNET)
    with pytest.raises(SourceError, match="one adapter can be swapped for another, and none is l"):
        lora.hot_swap(pipeline, "unet")
    apply_stack(pipeline, "lora(unet)", call=call)
    proven = pipeline_state(pipeline)
    told = r"convolutions cannot be swapped in: it is for \d+ layers that the one that is loaded"
    with pytest.raises(SourceError, match=told):
        lora.hot_swap(pipeline, "convolutions")
    assert pipeline_state(pipeline) == proven
    with third_party():
        pipeline.load_lora_weights("larger", adapter_name="second")
    with pytest.raises(SourceError, match="lora, second are loaded; load one"):
        lora.hot_swap(pipeline, "unet")


# --- what it is called, and what it is compared with


@pytest.mark.parametrize(
    ("written", "name", "baseline"),
    [
        ("lora(a.safetensors)", "lora(a.safetensors)", "lora(a.safetensors)"),
        ("compile+lora('./a/b-1.x')+bf16", "lora(a/b-1.x)+bf16+compile", "lora(a/b-1.x)"),
        ("lora(/data/a b.x')", None, None),
        (
            "lora('/data/a+b, (c).x')+bf16",
            "lora('/data/a+b, (c).x')+bf16",
            "lora('/data/a+b, (c).x')",
        ),
        ("lora(../x)+fp32", "lora(../x)", "lora(../x)"),
        (
            "lora(owner/name-1,weight_name=x.safetensors,scale=2)",
            None,
            "lora(owner/name-1,weight_name=x.safetensors,scale=2.0)",
        ),
        ("lora(a,fused=True)+fused_qkv", "lora(a,fused=True)+fused_qkv", "lora(a)"),
        (
            "lora(a,target_rank=64,scale=.5)",
            "lora(a,scale=0.5,target_rank=64)",
            "lora(a,scale=0.5)",
        ),
        ("bf16", "bf16", "fp32"),
    ],
)
def test_one_spelling_and_its_baseline(written, name, baseline):
    if baseline is None:
        with pytest.raises(UnknownStackError, match=r"stands in quotes|not a technique"):
            parse_stack(written)
        return
    stack = parse_stack(written)
    name = name or written.replace("scale=2", "scale=2.0")
    assert stack.name == name
    assert parse_stack(stack.name) == stack
    assert stack.baseline.name == baseline
    assert stack.is_baseline == (name == baseline)
    assert stack.baseline.is_baseline


def test_fp32_means_the_same_model_and_other_words_what_they_say():
    own = parse_stack("lora(a,fused=True)+bf16")
    assert meant_by(parse_stack("fp32"), own) == Stack(("lora(a)",))
    assert meant_by(parse_stack("bf16"), own) == Stack(("bf16",))  # what the adapter costs
    assert meant_by(parse_stack("fp32"), parse_stack("bf16")) == Stack(("fp32",))

"""A stack that is undone leaves the pipeline as it was, to the bit of its image."""

import pytest
import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.common.errors import NotUndoneError
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.techniques.apply import undo_stack
from pytest_diffspeed.techniques.catalog.layout import ChannelsLast
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.undo import snapshot

UNDOABLE = {
    "unet": ["fp32", "channels_last", "fused_qkv", "no_sdpa", "sdpa_flash", "sdpa_math"],
    "transformer": ["fp32", "channels_last", "fused_qkv", "sdpa_flash", "sdpa_math"],
}


@pytest.mark.parametrize(
    ("kind", "stack"),
    [
        *((kind, name) for kind, names in UNDOABLE.items() for name in names),
        ("unet", "channels_last+no_sdpa"),
        ("unet", "channels_last+fused_qkv+sdpa_math"),
        ("transformer", "channels_last+fused_qkv+sdpa_math"),
    ],
)
def test_the_same_image_comes_out_again(kind, stack, tiny):
    pipeline, call = tiny(kind)
    with third_party():
        image = call(pipeline)
    before = snapshot(pipeline)
    attributes = set(vars(pipeline))
    apply_stack(pipeline, stack, call=call)
    assert stack == "fp32" or snapshot(pipeline) != before
    undo_stack(pipeline, stack)
    assert snapshot(pipeline) == before
    assert set(vars(pipeline)) == attributes
    with third_party():
        assert torch.equal(call(pipeline), image)


@pytest.mark.parametrize("name", ["compile", "compile_max_autotune"])
def test_compilation_is_undone(name, tiny, without_inductor):
    pipeline, call = tiny("transformer of few blocks")
    with third_party():
        image = call(pipeline)
    apply_stack(pipeline, f"sdpa_flash+{name}", call=call)
    undo_stack(pipeline, f"sdpa_flash+{name}")
    assert "_compiled_call_impl" not in vars(pipeline.transformer)
    assert "decode" not in vars(pipeline.vae)
    with third_party():
        assert torch.equal(call(pipeline), image)


def test_stacks_are_undone_last_first(pipeline, call):
    apply_stack(pipeline, "channels_last", call=call)
    apply_stack(pipeline, "sdpa_math", call=call)
    with pytest.raises(NotUndoneError, match="channels_last cannot be undone: sdpa_math was appl"):
        undo_stack(pipeline, "channels_last")
    undo_stack(pipeline, "sdpa_math")
    undo_stack(pipeline, "channels_last")
    with pytest.raises(NotUndoneError, match="no stack was applied last to this StableDiffusionXL"):
        undo_stack(pipeline, "channels_last")


@pytest.mark.parametrize("name", ["bf16", "fp16", "int8_dynamic_sdxl"])
@pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
def test_rounded_weights_are_not_undone_and_nothing_is_changed(name, pipeline, call):
    stack = f"{name}+sdpa_flash"
    apply_stack(pipeline, stack, call=call)
    before = snapshot(pipeline)
    with pytest.raises(NotUndoneError, match=f"{name} cannot be undone: it rounded the weights"):
        undo_stack(pipeline, stack)
    assert snapshot(pipeline) == before


def test_every_technique_says_whether_it_can_be_undone():
    for technique in techniques().values():
        overrides = type(technique).undo is not techniques()["bf16"].__class__.undo
        assert technique.undoable == overrides


@pytest.mark.parametrize("what", ["a layer", "a weight", "a forward"])
def test_an_undo_that_leaves_something_behind_is_noticed(what, pipeline, call, monkeypatch):
    original = ChannelsLast.undo

    def forgets(self, pipe):
        original(self, pipe)
        layer = pipe.unet.conv_in
        if what == "a layer":
            layer.to(memory_format=torch.channels_last)
        elif what == "a weight":
            with torch.no_grad():
                layer.weight[0, 0, 0, 0] += 1
        else:
            layer.forward = layer.forward

    monkeypatch.setattr(ChannelsLast, "undo", forgets)
    apply_stack(pipeline, "channels_last", call=call)
    with pytest.raises(NotUndoneError, match=r"is not what it was before: unet\.conv_in"):
        undo_stack(pipeline, "channels_last")

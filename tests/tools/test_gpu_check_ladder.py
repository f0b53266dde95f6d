"""The ladder of the hardware check: its limits, its pipeline at full width, its verdicts."""

import time
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed.pipelines import random_weights
from pytest_diffspeed.techniques.registry import techniques


@pytest.fixture
def tool(gpu_check_path):
    import quick_compile
    import sdxl_cut
    import time_limit
    from parts import ladder

    return SimpleNamespace(
        ladder=ladder, sdxl_cut=sdxl_cut, at_most=time_limit.at_most, quick=quick_compile
    )


def test_what_goes_on_after_every_error_is_interrupted_all_the_same(tool):
    def stubborn():
        while True:
            try:
                time.sleep(10)
            except Exception:  # what inductor does with a configuration that fails
                continue

    with pytest.raises(TimeoutError, match="it was not done after 0 s"), tool.at_most(0.05):
        stubborn()
    with tool.at_most(30):  # and nothing of it is left
        time.sleep(0.06)
    with pytest.raises(TimeoutError, match="no time was left"), tool.at_most(-1):
        raise AssertionError("unreachable")


def test_compile_has_all_flags_but_the_search_and_gets_them_back(tool):
    compile_ = techniques()["compile"]
    before = dict(compile_.flags)
    with tool.quick.without_search():
        options = compile_.options()["options"]
        assert {name for name in before if options[name] != before[name]} == set(tool.quick.SEARCH)
    assert compile_.flags == before and "flags" not in vars(compile_)


@pytest.mark.parametrize("small", [True, False])
def test_the_pipeline_fits_together(tool, tmp_path, monkeypatch, small):
    """On the meta device: shapes without weights or work."""
    monkeypatch.setattr(random_weights, "CONFIGS", random_weights.CONFIGS)
    side = tool.sdxl_cut.place(tmp_path, small=small, device="meta")
    pipeline = tool.sdxl_cut.pipeline()
    unet = pipeline.unet
    assert side == (16 if small else 128)
    if not small:
        assert unet.config.block_out_channels == [320, 640, 1280]
    width = unet.config.cross_attention_dim
    assert (
        pipeline.text_encoder.config.hidden_size + pipeline.text_encoder_2.config.hidden_size
        == width
    )
    pooled = pipeline.text_encoder_2.config.projection_dim
    with torch.no_grad(), torch.device("meta"):
        step = unet(
            torch.empty(2, 4, side, side),
            torch.empty(()),
            encoder_hidden_states=torch.empty(2, pipeline.tokenizer.model_max_length, width),
            added_cond_kwargs={
                "text_embeds": torch.empty(2, pooled),
                "time_ids": torch.empty(2, 6),
            },
        ).sample
        image = pipeline.vae.decode(torch.empty(1, 4, side, side)).sample
    assert step.shape == (2, 4, side, side)
    assert image.shape == (1, 3, side, side)


@pytest.mark.parametrize(("bf16", "ok"), [(450, True), (900, False)])
def test_bf16_must_take_less_memory(tool, bf16, ok):
    rows = {
        name: tool.ladder.Row(None, 1.0, peak, {})
        for name, peak in (("fp32", 1000), ("bf16", bf16))
    }
    check = SimpleNamespace()
    check.expect = lambda ok, found, **figures: check.__dict__.update(ok=ok, figures=figures)
    ladder = SimpleNamespace(rows=rows, part=SimpleNamespace(device="cuda"))
    tool.ladder._memory(check, ladder)
    assert check.ok is ok
    assert check.figures == {"fp32": 1000, "bf16": bf16}


def test_arms_stay_only_while_a_later_step_is_timed_against_them(tool):
    rows = {name: tool.ladder.Row(name, 1.0, None, {}) for name in ("fp32", "bf16", "tf32")}
    ladder = SimpleNamespace(rows=rows, part=SimpleNamespace(device="cpu"))
    tool.ladder.Ladder.forget(ladder, "fp32")
    assert {name for name, row in rows.items() if row.arm is not None} == {"fp32", "bf16"}
    rows["bf16+channels_last"] = tool.ladder.Row("new", 1.0, None, {})
    tool.ladder.Ladder.forget(ladder, "bf16")
    rows["bf16+channels_last+compile"] = tool.ladder.Row("new", 1.0, None, {})
    tool.ladder.Ladder.forget(ladder, "bf16+channels_last")
    left = {name for name, row in rows.items() if row.arm is not None}
    assert left == {"fp32", "bf16+channels_last", "bf16+channels_last+compile"}

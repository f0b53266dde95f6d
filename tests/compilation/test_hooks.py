"""Hooks of diffusers and accelerate on a real denoiser: told as what breaks the graph."""

import pytest
import small_pipeline
import torch
from diffusers.hooks import FirstBlockCacheConfig, apply_group_offloading

from pytest_diffspeed import find_graph_breaks
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.compilation.probe import probe_breaks
from pytest_diffspeed.compilation.report import CompileFailedError
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.capture import capture
from pytest_diffspeed.pipelines.sources import parse_source

CPU = torch.device("cpu")


@pytest.fixture
def flux(libraries, fresh_dynamo):
    with third_party():
        yield small_pipeline.flux()


def reports(pipeline, steps=2):
    source = parse_source("small_pipeline:flux")
    call = PipelineCall(pipeline, source.defaults(pipeline), "a fox")
    captured = capture(pipeline, lambda: call(pipeline, steps=steps), ["denoiser"])
    return call, [probe_breaks(o.fn, o.calls, name=o.name, restart=o.restart) for o in captured]


def test_group_offloading_is_told_with_what_to_do(flux):
    apply_group_offloading(flux.transformer, CPU, CPU, "leaf_level")
    _, (report,) = reports(flux)
    assert not report.ok
    assert {found.file.rpartition("hooks/")[2] for found in report.breaks} == {
        "group_offloading.py"
    }
    assert all("offload, cache or casting hook" in found.remedy for found in report.breaks)
    assert any("diffusers' hook 'group_offloading' on " in note for note in report.notes)


def test_accelerates_offloading_is_told_with_what_to_do(flux):
    from accelerate import cpu_offload
    from accelerate.hooks import AlignDevicesHook

    cpu_offload(flux.text_encoder, CPU)
    inputs = torch.zeros(1, 8, dtype=torch.long)
    # Accelerate 1.0 does not switch dynamo off in its hooks, and dynamo fails inside itself.
    if not hasattr(AlignDevicesHook.pre_forward, "__wrapped__"):
        with pytest.raises(CompileFailedError, match="accelerate's AlignDevicesHook on "):
            find_graph_breaks(flux.text_encoder, inputs)
        return
    report = find_graph_breaks(flux.text_encoder, inputs)
    assert any("accelerate/hooks.py" in found.file for found in report.breaks)
    assert any("offload, cache or casting hook" in found.remedy for found in report.breaks)
    assert any("accelerate's AlignDevicesHook on " in note for note in report.notes)


def test_a_denoiser_with_a_cache_is_looked_at_in_its_context_and_left_empty(flux):
    """Pipelines open a `cache_context` around each call; states of a look must not reach images."""
    flux.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.9))
    call, (report,) = reports(flux)
    assert [found.function for found in report.breaks] == ["new_forward"]
    assert any("'fbc_leader_block_hook'" in note for note in report.notes)
    with pytest.raises(ValueError, match=r"No (cache )?context is set"):
        probe_breaks(flux.transformer, [captured_call(flux)])
    before = call(flux, steps=3)
    reports(flux)
    assert torch.equal(call(flux, steps=3), before)


def captured_call(pipeline):
    """Without what surrounded it."""
    from dataclasses import replace

    source = parse_source("small_pipeline:flux")
    call = PipelineCall(pipeline, source.defaults(pipeline), "a fox")
    (one,) = capture(pipeline, lambda: call(pipeline, steps=1), ["denoiser"])
    from contextlib import nullcontext

    return replace(one.calls[0], surroundings=nullcontext)

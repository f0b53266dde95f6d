"""A graph break in any network that runs in the steps is found, under that network's own name."""

import pytest
import torch
from diffusers import ControlNetModel

from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import MeasurementError, UsageError
from pytest_diffspeed.compilation.probe import probe_breaks
from pytest_diffspeed.gates.catalog.graph_breaks import graph_breaks
from pytest_diffspeed.gates.catalog.recompiles import recompiles
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.capture import capture
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.apply import apply_stack
from tests.pipelines import several_parts
from tests.pipelines.several_parts import call_with_controlnet, with_controlnet

BREAKS = "tests.pipelines.several_parts:second_breaks"


@pytest.mark.usefixtures("verbose")
def test_a_break_in_the_second_expert_fails_and_is_named(pytester, run_diffspeed, fresh_dynamo):
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("fp32")
        @pytest.mark.no_graph_breaks()
        def test_structure(optimized_pipeline): ...

        @pytest.mark.diffspeed("fp32")
        @pytest.mark.no_graph_breaks(components=["transformer", "vae"])
        def test_what_was_chosen(optimized_pipeline): ...
        """
    )
    outcome = run_diffspeed(f"--diffspeed-pipeline={BREAKS}", "--diffspeed-json=records.jsonl")
    outcome.assert_outcomes(failed=1, passed=1)
    outcome.stdout.fnmatch_lines(["*transformer_2 (whole):*", "*several_parts.py:* in forward*"])
    outcome.stdout.fnmatch_lines(["*not looked at: transformer_2 (ran 1 ×)*"])
    everything, chosen = (
        gate.result.figures for gate in read_journal(pytester.path / "records.jsonl").gates
    )
    assert {name: len(c["breaks"]) for name, c in everything["components"].items()} == {
        "transformer": 0,
        "transformer_2": 1,
        "vae.decode": 0,
    }
    assert everything["not_looked_at"] == []
    assert set(chosen["components"]) == {"transformer", "vae.decode"}
    assert chosen["not_looked_at"] == ["transformer_2 (ran 1 ×)"]


def arm_of(factory, stack="fp32"):
    source = parse_source(f"tests.pipelines.several_parts:{factory}")
    pipeline = source.build()
    call = PipelineCall(pipeline, source.defaults(pipeline), "a fox")
    applied = apply_stack(pipeline, stack, call=call)
    return PreparedArm(ArmSpec(source.name, applied.stack), pipeline, call, applied)


def test_the_baseline_is_observed_once(libraries, monkeypatch):
    """By the call that found what techniques change."""
    arm = arm_of("two_experts")
    monkeypatch.setattr(type(arm.pipeline), "__call__", None)
    observed, steps = arm.observed()
    assert [one.name for one in observed.denoisers] == ["transformer", "transformer_2"]
    assert steps == 2


def test_an_expert_of_the_last_step_is_looked_at_too(libraries, monkeypatch, fresh_dynamo):
    def late():
        return several_parts.two_experts(several_parts.BreaksExpert, early_steps=3)

    late.call_defaults = several_parts.two_experts.call_defaults
    monkeypatch.setattr(several_parts, "late", late, raising=False)
    reports = {report.name: report for report in graph_breaks(arm_of("late"), None)}
    assert len(reports["transformer_2"].breaks) == 1
    # Of one that ran in more steps, so many are looked at as in any other pipeline.
    assert len(reports["transformer"].graphs_by_call) == 2


def test_an_expert_that_never_runs_is_said(libraries, monkeypatch, fresh_dynamo):
    def never():
        return several_parts.two_experts(early_steps=99)

    never.call_defaults = several_parts.two_experts.call_defaults
    monkeypatch.setattr(several_parts, "never", never, raising=False)
    arm = arm_of("never")
    names = [report.name for report in graph_breaks(arm, None)]
    assert names == ["transformer", "vae.decode"]
    assert arm.not_looked_at(names) == ("transformer_2 (did not run in 4 steps)",)
    with pytest.raises(UsageError, match="'transformer_2' did not run in the call; what ran: tran"):
        graph_breaks(arm, ("transformer_2",))


def test_an_expert_that_is_not_compiled_cannot_be_said_to_compile_once(libraries, fresh_dynamo):
    arm = arm_of("two_experts")
    arm.pipeline.transformer.compile(backend="eager")
    with arm.running():
        arm.call(arm.pipeline, steps=2)
    with pytest.raises(
        MeasurementError,
        match=r"nothing of transformer_2 \(ran 1 ×\) is compiled, .*; compiled: transformer; ",
    ):
        recompiles(arm)
    assert recompiles(arm, components=["transformer"]).components == ("transformer",)
    with pytest.raises(MeasurementError, match=r"nothing of vae\.decode \(ran 1 ×\) is compiled"):
        recompiles(arm, components=["vae"])
    with pytest.raises(UsageError, match=r"components: the pipeline ran no 'unet'; .*what ran: "):
        recompiles(arm, components=["unet"])
    arm.pipeline.transformer_2.compile(backend="eager")
    with arm.running():
        arm.call(arm.pipeline, steps=2)
    assert recompiles(arm).components == ("transformer", "transformer_2")


@pytest.fixture
def breaks_in_the_controlnet(monkeypatch):
    original = ControlNetModel.forward

    def forward(self, *args, **kwargs):
        torch._dynamo.graph_break()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ControlNetModel, "forward", forward)


def test_a_break_in_a_controlnet_is_found(libraries, breaks_in_the_controlnet, fresh_dynamo):
    pipeline = with_controlnet()

    def call():
        return call_with_controlnet(pipeline)

    captured = {one.name: one for one in capture(pipeline, call)}
    assert {name: len(one.calls) for name, one in captured.items()} == {
        "controlnet": 2,
        "unet": 2,
        "vae.decode": 1,
    }
    control = captured["controlnet"]
    assert len(probe_breaks(control.fn, control.calls, name=control.name).breaks) == 1


def test_groups_and_single_ways_in_can_be_chosen(libraries):
    pipeline = with_controlnet()

    def call():
        return call_with_controlnet(pipeline)

    def names(*words):
        return [one.name for one in capture(pipeline, call, words)]

    assert names("denoiser") == ["controlnet", "unet"]
    assert names("encoder", "vae.decode") == ["text_encoder", "vae.decode"]
    assert names("unet", "scheduler.step") == ["unet", "scheduler.step"]
    with pytest.raises(UsageError, match=r"ran no 'contrlnet'; did you mean 'controlnet'\?.*what "):
        names("contrlnet")


def test_where_nothing_runs_in_steps_there_is_nothing_to_look_at_by_default(libraries):
    pipeline = several_parts.two_experts()
    with pytest.raises(MeasurementError, match="no component ran in the denoising steps of TwoExp"):
        capture(pipeline, lambda: pipeline.vae.decode(torch.zeros(1, 4, 4, 4)))


def test_what_ran_under_autocast_is_looked_at_under_autocast(libraries, fresh_dynamo):
    """Weights in half precision take the latents in float32 there, and nowhere else."""
    pipeline = with_controlnet()
    pipeline.unet.to(torch.bfloat16)

    def call():
        with torch.autocast("cpu", torch.bfloat16):
            return call_with_controlnet(pipeline)

    (unet,) = capture(pipeline, call, ["unet"])
    (output,) = unet.calls[0].run(unet.fn)
    assert output.dtype == torch.bfloat16
    assert probe_breaks(unet.fn, unet.calls, name=unet.name).breaks == ()

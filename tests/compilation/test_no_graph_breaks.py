"""The gate ``no_graph_breaks`` on a real pipeline, as a user sees it."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from pytest_diffspeed.arms.prepared_arm import PreparedArm
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.gates.catalog.graph_breaks import graph_breaks
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.apply import apply_stack
from pytest_diffspeed.techniques.catalog import compile as compile_catalog
from tests.printed import in_one_line

SOURCE = "small_pipeline:build"
SUITE = """
import pytest

@pytest.mark.diffspeed({stack!r})
@pytest.mark.no_graph_breaks({arguments})
def test_structure(optimized_pipeline): ...
"""


@pytest.fixture
def run(pytester, run_diffspeed, fresh_dynamo):
    def run_(arguments="", stack="channels_last", *words):
        pytester.makepyfile(test_it=SUITE.format(stack=stack, arguments=arguments))
        return run_diffspeed(
            f"--diffspeed-pipeline={SOURCE}", "--diffspeed-json=records.jsonl", *words
        )

    return run_


def gate(pytester):
    (found,) = read_journal(pytester.path / "records.jsonl").gates
    return found.result.as_dict()


@pytest.fixture
def prints_in_the_denoiser(monkeypatch):
    original = UNet2DConditionModel.get_time_embed

    def get_time_embed(self, *args, **kwargs):
        print("time")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "get_time_embed", get_time_embed)


@pytest.fixture
def prints_in_the_decoder(monkeypatch):
    original = AutoencoderKL._decode

    def _decode(self, *args, **kwargs):
        print("decode")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "_decode", _decode)


@pytest.fixture
def reads_a_value_in_the_denoiser(monkeypatch):
    original = UNet2DConditionModel.get_time_embed

    def get_time_embed(self, sample, timestep):
        found = original(self, sample, timestep)
        return found * min(1.0, found.abs().max().item())

    monkeypatch.setattr(UNet2DConditionModel, "get_time_embed", get_time_embed)


@pytest.fixture
def compiles_without_inductor(monkeypatch):
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")


@pytest.mark.parametrize("stack", ["channels_last", "compile"])
def test_a_clean_pipeline_passes_compiled_or_not(run, pytester, stack, compiles_without_inductor):
    outcome = run(stack=stack)
    outcome.assert_outcomes(passed=1)
    record = gate(pytester)
    assert (record["verdict"], record["evidence"]) == ("PASS", "counted")
    figures = record["figures"]
    assert set(figures["components"]) == {"unet", "vae.decode"}
    assert {(len(c["breaks"]), c["graphs"]) for c in figures["components"].values()} == {(0, 1)}
    assert all(c["ops"] > 0 for c in figures["components"].values())
    left_out = ["text_encoder (ran 1 ×)", "text_encoder_2 (ran 1 ×)"]
    assert figures["not_looked_at"] == left_out
    # Whoever reads the PASS is told what it does not cover.
    in_one_line(outcome).fnmatch_lines([f"*PASS *not looked at: {', '.join(left_out)}*"])
    # Two steps, and the second one runs what the first one captured.
    assert figures["components"]["unet"]["graphs_by_call"] == [1, 0]


@pytest.mark.parametrize("stack", ["channels_last", "compile"])
def test_what_the_stack_compiles_in_one_graph_is_no_break(
    run, pytester, stack, reads_a_value_in_the_denoiser, compiles_without_inductor
):
    """`fullgraph=True` keeps `.item()` in the graph, and the stack is proven to be one graph."""
    run(stack=stack).assert_outcomes(passed=1)
    assert gate(pytester)["figures"]["components"]["unet"]["graphs"] == 1


@pytest.mark.usefixtures("verbose")
def test_a_break_in_the_denoiser_fails_with_its_place(run, pytester, prints_in_the_denoiser):
    outcome = run()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        [
            "*FAIL no_graph_breaks: unet: 2 graphs, 1 break*",
            "*test_no_graph_breaks.py:* in get_time_embed: Failed to trace builtin operator*",
            '*print("time")*',
            "*remedy: take the output out *",
        ]
    )
    record = gate(pytester)
    assert (record["verdict"], record["evidence"], record["blocking"]) == ("FAIL", "counted", True)
    (found,) = record["figures"]["components"]["unet"]["breaks"]
    assert found["source"] == 'print("time")'


def test_a_break_inside_vae_decode_fails(run, pytester, prints_in_the_decoder):
    run().assert_outcomes(failed=1)
    components = gate(pytester)["figures"]["components"]
    assert components["unet"]["breaks"] == []
    assert [found["function"] for found in components["vae.decode"]["breaks"]] == ["_decode"]


@pytest.mark.parametrize(("guidance", "breaks"), [(5.0, 1), (1.0, 0)])
def test_a_break_only_with_guidance_is_met_where_the_call_has_guidance(
    run, pytester, monkeypatch, guidance, breaks
):
    import small_pipeline

    original = UNet2DConditionModel.get_time_embed

    def get_time_embed(self, sample, timestep):
        if sample.shape[0] == 2:
            print("guided")
        return original(self, sample, timestep)

    monkeypatch.setattr(UNet2DConditionModel, "get_time_embed", get_time_embed)
    monkeypatch.setitem(small_pipeline.build.call_defaults, "guidance", guidance)
    run().assert_outcomes(failed=breaks, passed=1 - breaks)
    assert len(gate(pytester)["figures"]["components"]["unet"]["breaks"]) == breaks


@pytest.mark.usefixtures("verbose")
def test_an_arm_with_fullgraph_fails_with_our_report(run, prints_in_the_denoiser, monkeypatch):
    """Compiled, it does not even come to the gate; the user reads the same all the same."""
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")
    outcome = run(stack="compile")
    outcome.assert_outcomes(errors=1)
    outcome.stdout.fnmatch_lines(
        [
            "*compile: expected one graph per component, but the first compiled call raised *",
            "*unet: 2 graphs, 1 break*",
            "*test_no_graph_breaks.py:* in get_time_embed: Failed to trace builtin operator*",
            '*print("time")*',
            "*remedy: take the output out of the compiled part*",
        ]
    )
    for raw in ("*Traceback*", "*from user code*", "*TORCHDYNAMO_VERBOSE*", "*torch.__trace*"):
        outcome.stdout.no_fnmatch_line(raw)


def test_only_the_components_that_were_asked_for_count(run, pytester, prints_in_the_decoder):
    run("components=['denoiser']").assert_outcomes(passed=1)
    figures = gate(pytester)["figures"]
    assert set(figures["components"]) == {"unet"}
    assert "vae.decode (ran 1 ×)" in figures["not_looked_at"]


def test_breaks_within_the_budget_pass(run, prints_in_the_decoder, prints_in_the_denoiser):
    run("max_breaks=2").assert_outcomes(passed=1)
    run("max_breaks=1").assert_outcomes(failed=1)


def test_text_encoders_and_the_scheduler_on_request(run, pytester):
    run("components=['text_encoder', 'scheduler.step'], max_breaks=100").assert_outcomes(passed=1)
    components = gate(pytester)["figures"]["components"]
    assert set(components) == {"text_encoder", "text_encoder_2", "scheduler.step"}
    assert all(component["graphs"] for component in components.values())


@pytest.mark.usefixtures("verbose")
def test_a_failing_compilation_is_an_error_and_no_break(run, monkeypatch):
    import planted

    original = AutoencoderKL._decode

    def _decode(self, z, *args, **kwargs):
        return original(self, planted.cannot_be_traced(z), *args, **kwargs)

    monkeypatch.setattr(AutoencoderKL, "_decode", _decode)
    outcome = run()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        [
            "*no_graph_breaks could not be checked: vae.decode: torch.compile failed while*"
            "the planted shape function fails*"
        ]
    )


@pytest.mark.usefixtures("verbose")
def test_a_component_that_the_pipeline_lacks_is_an_error(run):
    outcome = run("components=['transformer']")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        ["*components: the pipeline ran no 'transformer'; *what ran: text_encoder (1 *, unet (2 *"]
    )


@pytest.mark.usefixtures("verbose")
def test_a_misspelt_component_is_an_error_that_names_the_nearest(run):
    outcome = run("components=['vae.decod']")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        ["*components: the pipeline ran no 'vae.decod'; did you mean 'vae.decode'?*what ran: *"]
    )


@pytest.fixture
def arm(compiles_without_inductor, fresh_dynamo):
    def prepare(stack):
        source = parse_source(SOURCE)
        pipeline = source.build()
        defaults = source.defaults(pipeline).overridden(steps=1)
        call = PipelineCall(pipeline, defaults, "a fox")
        applied = apply_stack(pipeline, stack, call=call)
        return PreparedArm(ArmSpec(SOURCE, applied.stack), pipeline, call, applied)

    return prepare


def graphs():
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_the_arm_compiles_nothing_again_after_a_look(arm, libraries):
    prepared = arm("compile")
    before = graphs()
    reports = graph_breaks(prepared, None)
    assert [report.graphs for report in reports] == [1, 1]
    assert reports[0].how == "whole, compiled in place"
    assert reports[1].how == "whole, under torch.compile"
    with prepared.running():
        prepared.call(prepared.pipeline)
    assert graphs() == before
    prepared.require_unchanged()


def test_an_arm_is_looked_at_once(arm, libraries, monkeypatch):
    prepared = arm("channels_last")
    first = graph_breaks(prepared, None)
    monkeypatch.setattr(
        "pytest_diffspeed.compilation.probe.probe_breaks",
        lambda *a, **k: pytest.fail("a second probe"),
    )
    assert graph_breaks(prepared, None) is first

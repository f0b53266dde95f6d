"""The gates ``no_recompiles`` and ``max_compile_time`` on a real pipeline, as a user sees them."""

import pytest
import torch
from diffusers import EulerDiscreteScheduler, UNet2DConditionModel

from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.catalog import compile as compile_catalog
from tests.printed import in_one_line

SUITE = """
import pytest

@pytest.mark.diffspeed({stack!r})
@pytest.mark.{gate}
def test_structure(optimized_pipeline): ...
"""

SECOND = "def test_second(optimized_pipeline): ..."


@pytest.fixture
def run(pytester, run_diffspeed, fresh_dynamo, monkeypatch):
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")

    def run_(gate, stack="compile", more=""):
        pytester.makepyfile(test_it=SUITE.format(stack=stack, gate=gate) + more)
        source = "--diffspeed-pipeline=small_pipeline:build"
        return run_diffspeed(source, "--diffspeed-json=records.jsonl")

    return run_


def figures(pytester):
    (found,) = read_journal(pytester.path / "records.jsonl").gates
    return found.result.figures


def test_the_same_call_again_and_another_prompt_compile_nothing(run, pytester):
    outcome = run("no_recompiles(prompts=['a much longer prompt about an owl in the snow'])")
    outcome.assert_outcomes(passed=1)
    (record,) = read_journal(pytester.path / "records.jsonl").gates
    assert (record.result.verdict, record.result.evidence) == ("PASS", "counted")
    found = record.result.figures
    assert (found["recompiles"], len(found["report"]["calls"])) == (0, 2)
    left_out = ["text_encoder (ran 1 ×)", "text_encoder_2 (ran 1 ×)"]
    assert found["not_looked_at"] == left_out
    # Whoever reads the PASS is told what it does not cover.
    in_one_line(outcome).fnmatch_lines([f"*PASS *not looked at: {', '.join(left_out)}*"])


@pytest.mark.usefixtures("verbose")
def test_other_sizes_batches_and_guidance_compile_again_with_their_reason(run, pytester):
    outcome = run("no_recompiles(sizes=[(16, 24)], batch_sizes=[2], guidance=[1.0])")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        [
            "*FAIL no_recompiles: * recompilations over 4 calls *",
            "*size 16 × 24: UNet2DConditionModel.forward (*unet_2d_condition.py:*) compiled again*",
        ]
    )
    whys = [one["why"] for one in figures(pytester)["report"]["recompiles"]]
    assert any("size mismatch at index 3. expected 16, actual 24" in why for why in whys)
    found = {one["when"] for one in figures(pytester)["report"]["recompiles"]}
    assert "size 16 × 24" in found
    assert found <= {"size 16 × 24", "batch of 2", "guidance 1"}


def test_of_chosen_components_alone_is_told_what_compiles_again(run, pytester):
    """Guidance switched off halves the UNet's batch, and not the VAE's."""
    outcome = run("no_recompiles(components=['vae'], guidance=[1.0])")
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(["PASS *no_recompiles  0 *not looked at: unet (ran 2 ×);*"])
    assert len(figures(pytester)["report"]["calls"]) == 2
    assert figures(pytester)["not_looked_at"][:2] == ["unet (ran 2 ×)", "text_encoder (ran 1 ×)"]
    assert figures(pytester)["report"]["components"] == ["vae.decode"]


def test_a_report_is_short_enough_to_read(run, pytester):
    """Pytest captures torch's trace, thousands of lines; guards say where they come from."""
    outcome = run("no_recompiles(sizes=[(16, 24)], guidance=[1.0])")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.no_fnmatch_line("*torch.__trace*")
    outcome.stdout.no_fnmatch_line("*user code shown*")
    whys = [one["why"] for one in figures(pytester)["report"]["recompiles"]]
    assert whys
    assert not any("  # " in why for why in whys)


def test_what_the_gate_compiled_is_gone_so_another_test_finds_the_same(run, pytester):
    """Tests share an arm; the second one would find the other size compiled already."""
    gate = "no_recompiles(sizes=[(16, 24)])"
    outcome = run(gate, more=f"@pytest.mark.diffspeed('compile')\n@pytest.mark.{gate}\n{SECOND}")
    outcome.assert_outcomes(failed=2)
    gates = read_journal(pytester.path / "records.jsonl").gates
    first, second = (gate.result.figures["report"] for gate in gates)
    assert first["recompiles"] == second["recompiles"]
    assert len(first["recompiles"]) == 2
    assert first["often"] == second["often"]


@pytest.mark.usefixtures("verbose")
def test_a_graph_break_of_another_call_is_told_with_its_place(run, monkeypatch):
    original = UNet2DConditionModel.get_time_embed

    def get_time_embed(self, sample, timestep):
        if sample.shape[0] == 1:  # without guidance
            print("unguided")
        return original(self, sample, timestep)

    monkeypatch.setattr(UNet2DConditionModel, "get_time_embed", get_time_embed)
    outcome = run("no_recompiles(guidance=[1.0])")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        [
            "*no_recompiles could not be checked: guidance 1: *unet: 2 graphs, 1 break*",
            "*test_no_recompiles.py:* in get_time_embed: Failed to trace builtin operator*",
            '*print("unguided")*',
            "*remedy: *",
        ]
    )
    outcome.stdout.no_fnmatch_line("*torch._dynamo.exc*")


def test_recompilations_within_the_budget_pass(run, pytester):
    run("no_recompiles(max_recompiles=2, sizes=[(16, 24)])").assert_outcomes(passed=1)
    assert figures(pytester)["recompiles"] == 2  # denoiser and decoder


def test_a_number_that_changes_on_every_call_is_seen(run, pytester, monkeypatch):
    """A scheduler that hands the denoiser a Python number instead of a tensor."""
    calls = iter(range(1000))

    def scale_model_input(self, sample, timestep):
        self.is_scale_input_called = True
        return Size(sample * 1.0, next(calls))

    class Size(torch.Tensor):
        def __new__(cls, sample, number):
            return sample[..., : 8 + number % 5] if number > 12 else sample

    monkeypatch.setattr(EulerDiscreteScheduler, "scale_model_input", scale_model_input)
    monkeypatch.setattr(EulerDiscreteScheduler, "step", lambda self, out, t, s, **kwargs: (s,))
    run("no_recompiles()").assert_outcomes(failed=1)
    first = figures(pytester)["report"]["recompiles"][0]
    assert first["when"] == "the same call again"
    assert "size mismatch" in first["why"]


@pytest.mark.usefixtures("verbose")
def test_a_stack_that_compiles_nothing_is_an_error(run):
    outcome = run("no_recompiles()", stack="channels_last")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*nothing of the pipeline is compiled*"])


def test_a_cold_start_within_its_limit(run, pytester):
    outcome = run("max_compile_time(1000)")
    outcome.assert_outcomes(passed=1)
    in_one_line(outcome).fnmatch_lines(["*PASS *max_compile_time first call *(measured)*"])
    found = figures(pytester)
    assert found["cache"] == "unused"
    assert found["graphs"] == 2
    assert found["first_call_s"] > found["steady_s"] > 0


@pytest.mark.usefixtures("verbose")
def test_a_cold_start_that_takes_too_long_fails(run):
    outcome = run("max_compile_time(0.000001)")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*the first call took * s, allowed: 1e-06 s*"])


@pytest.mark.usefixtures("verbose")
def test_no_compilation_has_no_compile_time(run):
    outcome = run("max_compile_time(1000)", stack="channels_last")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*channels_last compiles nothing, so there is no compilation*"])

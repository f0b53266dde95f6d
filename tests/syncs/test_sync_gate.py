"""``no_gpu_syncs`` as a user writes it, on a machine without a GPU."""

import re

import pytest

from tests.journals import journaled, records_in
from tests.printed import in_one_line

CONFTEST = """
import diffusers
from pytest_diffspeed.pipelines.sources import parse_source

def build(scheduler=None):
    pipeline = parse_source("random:sdxl-tiny").build()
    if scheduler is not None:
        pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    return pipeline

class Fixed(diffusers.DDIMScheduler):
    def set_timesteps(self, num_inference_steps, device=None):
        super().set_timesteps(num_inference_steps, device="cpu")

class SigmasOnTheDevice(diffusers.EulerDiscreteScheduler):
    def set_timesteps(self, num_inference_steps=None, device=None, **kwargs):
        super().set_timesteps(num_inference_steps, device=device, **kwargs)
        self.sigmas = self.sigmas.to(self.timesteps.device)

def on_the_device():
    return build(SigmasOnTheDevice)

def on_the_host():
    return build(diffusers.EulerDiscreteScheduler)

class Reading(diffusers.DDIMScheduler):
    def step(self, model_output, *args, **kwargs):
        assert model_output.isfinite().all()
        return super().step(model_output, *args, **kwargs)

def reading():
    return build(Reading)

def broken():
    return build(diffusers.DDIMScheduler)

def fixed():
    return build(Fixed)
"""
TEST = """
import re

import pytest

@pytest.mark.diffspeed("fp32")
@pytest.mark.no_gpu_syncs({arguments})
def test_steps(optimized_pipeline):
    pass
"""


def run(pytester, arguments, source="random:sdxl-tiny", *more):
    pytester.makepyfile(sources=CONFTEST)
    pytester.makepyfile(test_syncs=TEST.replace("{arguments}", arguments))
    pytester.syspathinsert()
    result = pytester.runpytest(
        "--diffspeed", "--diffspeed-device=cpu", f"--diffspeed-pipeline={source}", *more
    )
    return result, " ".join(" ".join(result.outlines).split())


def steps_of(pytester):
    """Host syncs of the first step and of the worst steady one, as the one gate recorded them."""
    figures = journaled(pytester, "gate")[0]["figures"]
    return figures["first_step"], max(figures["per_step"])


def test_a_clean_pipeline_passes(pytester, private_temp):
    result, text = run(pytester, "", "random:sdxl-tiny", "--diffspeed-json=records.jsonl")
    result.assert_outcomes(passed=1)
    assert "PASS" in text
    assert "0 syncs in the first step, at most 0 in " in text
    assert " steady ones, simulated GPU, torch " in text
    (gate,) = records_in(pytester.path / "records.jsonl", "gate")
    assert (gate["verdict"], gate["evidence"]) == ("PASS", "counted")
    assert gate["figures"]["first_step"] == 0
    assert gate["figures"]["counted_on"].startswith("simulated GPU")


def test_red_then_green(pytester, private_temp):
    red, text = run(pytester, "", "sources:broken")
    red.assert_outcomes(failed=1)
    assert steps_of(pytester) == (6, 6)
    assert "scheduling_ddim.py:" in text
    assert "= self.alphas_cumprod[" in text
    green, _ = run(pytester, "", "sources:fixed")
    green.assert_outcomes(passed=1)


def test_sigmas_on_the_device_are_red(pytester, private_temp):
    red, text = run(pytester, "", "sources:on_the_device")
    red.assert_outcomes(failed=1)
    assert steps_of(pytester) == (2, 2)
    assert "next: take another scheduler" in text
    green, _ = run(pytester, "", "sources:on_the_host")
    green.assert_outcomes(passed=1)


def test_budgets(pytester, private_temp):
    enough, _ = run(pytester, "first_step=6, per_step=6", "sources:broken")
    enough.assert_outcomes(passed=1)
    short, text = run(pytester, "first_step=7, per_step=6", "sources:reading")
    short.assert_outcomes(failed=1)
    assert "up to 7 in a steady step, 6 allowed" in text
    assert "in the first step, 7 allowed" not in text
    # Of a library and of the project, the project's line: what it adds is more often what is new.
    *_, gate = journaled(pytester, "gate")
    assert gate["cause"]["place"].startswith("sources.py:")
    assert gate["cause"]["source"] == "assert model_output.isfinite().all()"


def test_allowances(pytester, private_temp):
    arguments = "allow=['scheduling_ddim.py  # known', 'gone.py:1']"
    result, text = run(pytester, arguments, "sources:broken")
    result.assert_outcomes(passed=1)
    assert "6 in the first step" not in text
    (gate,) = journaled(pytester, "gate")
    assert gate["figures"]["unused_allowances"] == ["gone.py:1 (no reason given)"]
    assert {site["allowed"] for site in gate["figures"]["sites"]} == {"known"}
    assert "not seen any more: gone.py:1 (no reason given)" in text
    assert re.search(r"; \d\d more by allow=;", text)


@pytest.mark.slow
def test_what_a_simulated_gpu_cannot_run_is_left_out_and_named(pytester, private_temp, monkeypatch):
    from pytest_diffspeed.techniques.catalog.compile import Compile

    monkeypatch.setattr(Compile, "backend", "eager")
    test = TEST.replace('"fp32"', '"channels_last+compile"').replace("{arguments}", "")
    pytester.makepyfile(test_syncs=test)
    result = pytester.runpytest(
        "--diffspeed", "--diffspeed-device=cpu", "--diffspeed-pipeline=random:sdxl-tiny"
    )
    result.assert_outcomes(passed=1)
    (gate,) = journaled(pytester, "gate")
    assert gate["figures"]["counted_with"] == "channels_last"
    assert gate["figures"]["not_applied"] == ["compile"]
    in_one_line(result).fnmatch_lines(
        ["*; counted with channels_last: compile not applied, since techniques*"]
    )


@pytest.mark.usefixtures("verbose")
def test_whole_calls(pytester, private_temp):
    result, text = run(pytester, "scope='call'")
    result.assert_outcomes(failed=1)
    (gate,) = journaled(pytester, "gate")
    assert gate["figures"]["outside"] > 0
    assert set(gate["figures"]["per_step"]) == {0}
    assert "outside the steps, 0 allowed" in text


STRICT = """
from diffusers import EulerDiscreteScheduler
from pytest_diffspeed.pipelines.sources import parse_source

class Hasty(EulerDiscreteScheduler):
    def step(self, model_output, timestep, sample, **kwargs):
        import torch
        sample = sample + torch.zeros(1).to(sample.device, non_blocking=True)
        return super().step(model_output, timestep, sample, **kwargs)

def hasty():
    pipeline = parse_source("random:sdxl-tiny").build()
    pipeline.scheduler = Hasty.from_config(pipeline.scheduler.config)
    return pipeline
"""


@pytest.mark.usefixtures("verbose")
def test_strict_gates_what_may_block(pytester, private_temp):
    pytester.makepyfile(hasty_source=STRICT)
    lenient, said = run(pytester, "", "hasty_source:hasty")
    lenient.assert_outcomes(passed=1)
    assert "pageable copies may block (gated with strict=True)" in said
    strict, text = run(pytester, "strict=True", "hasty_source:hasty")
    strict.assert_outcomes(failed=1)
    assert "pageable non_blocking copies, none allowed (strict)" in text
    assert "hasty_source.py:7 may_block" in text

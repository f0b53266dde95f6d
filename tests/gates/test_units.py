"""Gates on a step or a component, and what is recorded beside a ratio; one file as users write it.

The clock counts boundaries instead of seconds, so every ratio is exactly 1.
"""

import pytest

from tests.clocks import StampingClock
from tests.journals import journaled


@pytest.fixture
def counting_clock(libraries, short_noise_floor, monkeypatch):
    monkeypatch.setattr("pytest_diffspeed.arms.session.clock_for", lambda device: StampingClock())
    monkeypatch.setattr("pytest_diffspeed.accelerators.registry.disturbances_of", lambda kind: ())


def gates(pytester):
    """The gates by unit, each with its stages, which are written after those of whole calls."""
    lines = journaled(pytester)
    found = {line["figures"]["unit"]: line for line in lines if line["kind"] == "gate"}
    stages = {line["claim"]: line["stages"] for line in lines if line["kind"] == "stages"}
    for line in found.values():
        line["figures"]["stages"] = stages.get(line["claim"])
    return found


UNITS = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.min_speedup(0.5, unit="step")
@pytest.mark.min_speedup(0.5, unit="text_encoder")
@pytest.mark.min_speedup(0.5, unit="denoiser")
@pytest.mark.min_speedup(0.5, unit="unet")
@pytest.mark.min_speedup(0.5, unit="vae.decode")
@pytest.mark.max_slowdown(100)
def test_it(optimized_pipeline): ...
"""


def test_each_unit_gets_a_verdict_and_the_stages_stand_beside_it(
    pytester, run_diffspeed, counting_clock
):
    pytester.makepyfile(test_it=UNITS)
    outcome = run_diffspeed("--diffspeed-steps=2")
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(
        ["diffspeed: timing channels_last against fp32: * a vae.decode, *"]
    )
    # The ladder is one of whole calls.
    (row,) = (line for line in outcome.outlines if line.startswith("channels_last  fp32"))
    assert " 10 s " in row
    found = gates(pytester)
    assert {line["verdict"] for line in found.values()} == {"PASS"}
    assert {line["figures"]["pairs"] for line in found.values()} == {5}
    seconds = {unit: line["figures"]["candidate_s"] for unit, line in found.items()}
    # A call of a component alone, or one step, is one call for the clock, as a whole one is.
    assert set(seconds.values()) == {10.0}
    of = {unit: line["figures"]["pairs_of"] for unit, line in found.items()}
    assert of == {
        "call": "whole calls",
        "step": "steps of calls in lockstep",
        "denoiser": "denoiser calls of steps 1, 2 (inputs of a real call)",
        "unet": "unet calls of steps 1, 2 (inputs of a real call)",
        "text_encoder": "the text_encoder calls of one image (inputs of a real call)",
        "vae.decode": "the vae.decode calls of one image (inputs of a real call)",
    }
    for unit, line in found.items():
        stages = line["figures"]["stages"]
        assert (stages is None) is (unit != "call")  # it takes whole calls to see them
        if stages is not None:
            assert stages["baseline"] == stages["candidate"]
            assert stages["candidate"]["steady_step_s"] == 4.0
            assert stages["candidate"]["steady_steps"] == 1
            assert stages["candidate"]["vae_decode_s"] == 1.0
            assert stages["candidate"]["components"]["unet"] == 2.0
        assert line["figures"]["discard_warm_call"] is False


@pytest.mark.usefixtures("verbose")
def test_a_component_with_a_state_is_timed_in_whole_calls_and_the_line_says_so(
    pytester, run_diffspeed, counting_clock
):
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="tests.stateful_pipeline:build")
        @pytest.mark.min_speedup(0.5, unit="denoiser")
        def test_it(optimized_pipeline): ...
        """,
    )
    outcome = run_diffspeed()
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(
        [
            "*denoiser is timed in whole calls: denoiser keeps a state between calls (*)",
            "*5 pairs of whole calls, since denoiser keeps a state between calls (calls_so_far *",
        ]
    )
    (gate,) = journaled(pytester, "gate")
    assert gate["figures"]["candidate_s"] == 1.0  # of the boundaries of one denoiser call
    assert journaled(pytester, "stages")
    (path,) = (pytester.path / ".diffspeed").glob("evidence/*.jsonl")
    assert "component calls" not in path.read_text()  # a verdict of whole calls, and kept as one


def test_a_call_that_raises_after_the_pairs_costs_no_verdict(
    pytester, run_diffspeed, counting_clock, monkeypatch
):
    def broken(self, clock):
        raise RuntimeError("device lost")

    monkeypatch.setattr("pytest_diffspeed.arms.prepared_arm.PreparedArm.stage_times", broken)
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.5)
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed().assert_outcomes(passed=1)
    stages = gates(pytester)["call"]["figures"]["stages"]
    assert stages["candidate"] == {"error": "RuntimeError: device lost"}


def test_stages_are_taken_from_a_call_after_the_pairs(
    pytester, run_diffspeed, short_noise_floor, monkeypatch
):
    """No boundary is watched while whole calls are timed."""
    log = []

    class Logging(StampingClock):
        def time(self, call):
            log.append("pair")
            return 10.0, call()

        def stamp(self):
            log.append("stamp")
            return super().stamp()

    monkeypatch.setattr("pytest_diffspeed.arms.session.clock_for", lambda device: Logging())
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.5)
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed().assert_outcomes(passed=1)
    assert log.index("stamp") == log.count("pair")


@pytest.mark.usefixtures("verbose")
def test_the_step_of_a_one_step_call_is_an_error_that_says_what_to_do(
    pytester, run_diffspeed, counting_clock
):
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.5, unit="step")
        def test_it(optimized_pipeline): ...
        """
    )
    outcome = run_diffspeed("--diffspeed-steps=1")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*could not be checked: *--diffspeed-steps=2 or more*"])


@pytest.mark.usefixtures("verbose")
def test_a_component_that_the_pipeline_lacks_is_an_error_that_says_so(
    pytester, run_diffspeed, counting_clock
):
    pytester.makepyfile(
        factory="""
        def build():
            from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
            import torch

            torch.manual_seed(0)
            unet = UNet2DModel(
                sample_size=8,
                block_out_channels=(8, 8),
                norm_num_groups=4,
                down_block_types=("DownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "UpBlock2D"),
            )
            return DDPMPipeline(unet, DDPMScheduler())
        """,
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last", pipeline="factory:build")
        @pytest.mark.min_speedup(0.5, unit="text_encoder")
        def test_it(optimized_pipeline): ...
        """,
    )
    pytester.syspathinsert()
    outcome = run_diffspeed()
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(
        ["*unit='text_encoder' cannot be timed for DDPMPipeline: the pipeline ran no *what ran: *"]
    )


def test_dropped_pairs_are_written_apart_and_counted(
    pytester, run_diffspeed, counting_clock, monkeypatch
):
    answers = iter([None, "the processor was throttled"])
    monkeypatch.setattr(
        "pytest_diffspeed.accelerators.registry.disturbances_of",
        lambda kind: (lambda: next(answers, None),),
    )
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.5)
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed().assert_outcomes(passed=1)
    lines = journaled(pytester)
    (dropped,) = (line for line in lines if line["kind"] == "dropped-pair")
    assert (dropped["index"], dropped["dropped"]) == (1, "the processor was throttled")
    assert {"baseline_s", "candidate_s", "candidate_first"} <= set(dropped)
    counting = [line["index"] for line in lines if line["kind"] == "pair"]
    assert counting == [0, 2, 3, 4, 5]
    (gate,) = (line for line in lines if line["kind"] == "gate")
    assert gate["figures"]["pairs"] == 5
    assert gate["figures"]["dropped_pairs"] == 1


def test_a_ratio_that_fails_says_what_there_is_to_look_at(pytester, run_diffspeed, counting_clock):
    """Stages take a whole call, and are not recorded beside pairs of less."""
    pytester.makepyfile(
        test_it="""
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(3, unit="vae.decode")
        @pytest.mark.min_speedup(3)
        def test_it(optimized_pipeline): ...
        """
    )
    run_diffspeed("--diffspeed-steps=1").assert_outcomes(failed=1)
    said = {line["figures"]["unit"]: line["cause"] for line in journaled(pytester, "gate")}
    assert {unit: cause["next_step"].partition(", or ")[0] for unit, cause in said.items()} == {
        "call": "see where the time goes (stages in the HTML report)",
        "vae.decode": "profile the vae.decode of both",
    }

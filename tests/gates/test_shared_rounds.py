"""Gates of one test that share their rounds, and the noise floor beside each claim."""

import itertools
import subprocess
from dataclasses import replace

import pytest

from tests.clocks import ReplayingClock
from tests.journals import journaled

TWO_GATES = """
import pytest

@pytest.mark.diffspeed("channels_last", "bf16")
@pytest.mark.min_speedup(0.5, over="previous", stack="bf16")
@pytest.mark.max_slowdown(200, over="fp32")
@pytest.mark.min_speedup(0.6, over="fp32")
def test_speed(optimized_pipeline): pass
"""
ONE_GATE = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.min_speedup({ratio})
def test_speed(optimized_pipeline): pass
"""


@pytest.fixture
def alternating_clock(libraries, monkeypatch):
    """Every second call of the baseline takes longer; the other arms always take as long."""

    def seconds(calls):
        of_baseline = calls[-1].__self__.spec.stack.name == "fp32"
        return 1.1 if of_baseline and calls.count(calls[-1]) % 2 else 1.0

    clock = ReplayingClock(seconds)
    monkeypatch.setattr("pytest_diffspeed.arms.session.clock_for", lambda device: clock)
    return clock


def test_gates_of_one_test_share_their_calls(pytester, run_diffspeed, alternating_clock):
    pytester.makepyfile(TWO_GATES)
    result = run_diffspeed("--diffspeed-inconclusive=warn")
    result.assert_outcomes(passed=2)
    of_bf16 = [line for line in journaled(pytester, "pair") if line["stack"] == "bf16"]
    by_claim = {
        claim: {line["index"]: line for line in lines}
        for claim, lines in itertools.groupby(
            sorted(of_bf16, key=lambda line: line["claim"]), key=lambda line: line["claim"]
        )
    }
    assert sorted(by_claim) == [
        "max_slowdown over fp32 per call",
        "min_speedup over fp32 per call",
        "min_speedup over previous per call",
    ]
    for index in range(5):
        rows = [lines[index] for lines in by_claim.values()]
        assert len({row["candidate_s"] for row in rows}) == 1
        assert rows[0]["baseline_s"] == rows[1]["baseline_s"]  # the same call of fp32
    gates = {line["claim"]: line for line in journaled(pytester, "gate") if line["stack"] == "bf16"}
    assert {line["verdict"] for line in gates.values()} == {"PASS"}
    assert gates["min_speedup over previous per call"]["figures"]["over"] == "channels_last"


def test_one_gate_that_cannot_be_measured_leaves_the_others(
    pytester, run_diffspeed, constant_clock
):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.min_speedup(0.5)
        @pytest.mark.min_speedup(0.5, over="channels_last")
        def test_speed(optimized_pipeline): pass
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "NOT_APPLICABLE  *min_speedup over channels_last per call",
            "*it would compare channels_last with itself",
            "PASS  *min_speedup over fp32 per call  *",
        ]
    )


def test_each_claim_stands_beside_what_the_baseline_makes_against_itself(
    pytester, run_diffspeed, alternating_clock
):
    pytester.makepyfile(ONE_GATE.format(ratio=0.5))
    result = run_diffspeed("-v")
    # After five calls of warm-up the later call of each of these pairs is a slow one.
    result.stdout.fnmatch_lines(["*(baseline against itself 0.0 %, the later call 9.5 % slower)*"])
    (gate,) = journaled(pytester, "gate")
    figures = gate["figures"]
    assert figures["is_order_biased"]
    assert figures["order_bias"] == pytest.approx(0.0953, abs=1e-3)
    assert figures["noise_floor_pairs"] == 20
    assert figures["noise_floor_at"].endswith("+00:00")


def test_the_noise_floor_is_measured_once_a_commit(pytester, run_diffspeed, constant_clock):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]

    def git(*words):
        subprocess.run(["git", *who, *words], cwd=pytester.path, check=True)

    pytester.makepyfile(test_it=ONE_GATE.format(ratio=0.5))
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    for ratio in (0.5, 0.6):  # an edit that nobody committed
        pytester.makepyfile(test_it=ONE_GATE.format(ratio=ratio))
        run_diffspeed().assert_outcomes(passed=1)
    floors = journaled(pytester, "noise-floor")
    assert len(floors) == 2
    assert floors[0]["at"] == floors[1]["at"]
    assert floors[0]["key"] == floors[1]["key"]
    git("commit", "--quiet", "-a", "-m", "second")
    run_diffspeed()
    assert journaled(pytester, "noise-floor")[-1]["key"] != floors[0]["key"]
    run_diffspeed("--diffspeed-steps=2")
    assert len({floor["key"] for floor in journaled(pytester, "noise-floor")}) == 3


def test_a_spoilt_noise_floor_is_measured_again(pytester, run_diffspeed, constant_clock):
    pytester.makepyfile(ONE_GATE.format(ratio=0.5))
    run_diffspeed()
    (path,) = (pytester.path / ".diffspeed" / "noise").iterdir()
    path.write_text(path.read_text().replace("[[1.0", '[["one"')[:-1])
    run_diffspeed().assert_outcomes(passed=1)
    assert journaled(pytester, "noise-floor")[-1]["pairs"] == [[1.0, 1.0]] * 20


def test_a_budget_that_is_not_expected_to_decide_is_said_before_the_first_pair(
    pytester, run_diffspeed, libraries, monkeypatch
):
    seconds = itertools.cycle([1.0, 1.0, 1.3, 1.0, 1.0, 0.8])
    clock = ReplayingClock(lambda calls: next(seconds))
    monkeypatch.setattr("pytest_diffspeed.arms.session.clock_for", lambda device: clock)
    pytester.makepyfile(ONE_GATE.format(ratio=1.02))
    result = run_diffspeed("--diffspeed-inconclusive=warn", "--diffspeed-budget=30")
    lines = result.outlines
    said = [i for i, line in enumerate(lines) if "can be expected to show only" in line]
    pairs = [i for i, line in enumerate(lines) if line.startswith("diffspeed: pair 1:")]
    assert said
    assert said[0] < pairs[0]


@pytest.mark.parametrize(
    ("stack", "ratio", "outcome"), [("bf16", 0.6, "passed"), ("channels_last", 0.9, "failed")]
)
@pytest.mark.usefixtures("verbose")
def test_without_a_gpu_the_simulated_one_counts_memory(
    pytester, run_diffspeed, constant_clock, stack, ratio, outcome
):
    """Half the bytes in half precision; as many in another memory format."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.diffspeed("{stack}")
        @pytest.mark.max_memory({ratio})
        def test_memory(optimized_pipeline): pass
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(**{outcome: 1})
    (gate,) = journaled(pytester, "gate")
    figures = gate["figures"]
    assert gate["evidence"] == "counted"
    assert figures["counted_on"].startswith("simulated GPU, torch")
    assert figures["not_counted"] == [
        "workspaces of kernels",
        "what a caching allocator rounds up, splits and keeps",
    ]
    for arm in ("baseline", "candidate"):
        assert figures[f"{arm}_peak_bytes"] > figures[f"{arm}_weight_bytes"] > 0
        assert ".py:" in figures[f"{arm}_peak_at"]
    assert "baseline_reserved_bytes" not in figures
    share = figures["candidate_weight_bytes"] / figures["baseline_weight_bytes"]
    # Some buffers hold whole numbers, which no precision halves.
    assert share == pytest.approx(0.5 if stack == "bf16" else 1, rel=1e-3)
    assert "counted on a simulated GPU, without workspaces of kernels and without" in gate["reason"]
    assert "\n  the peak is at " in gate["reason"]
    result.stdout.fnmatch_lines(["*MiB, * of fp32's on a simulated GPU (counted)"])


@pytest.mark.parametrize(
    ("stack", "over"), [("compile", "fp32"), ("channels_last", "int8_dynamic")]
)
def test_without_a_gpu_only_eager_stacks_are_counted(
    pytester, run_diffspeed, constant_clock, monkeypatch, stack, over
):
    from pytest_diffspeed.techniques.catalog.compile import Compile

    monkeypatch.setattr(Compile, "backend", "eager")
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.diffspeed("{stack}")
        @pytest.mark.max_memory(0.9, over="{over}")
        def test_memory(optimized_pipeline): pass
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED  # nothing was checked
    result.stdout.fnmatch_lines(
        [
            f"NOT_APPLICABLE  *test_memory[[]{stack}[]]  max_memory over {over}",
            "*cannot be counted without a GPU: * gate an eager stack such as 'bf16'*",
        ]
    )


@pytest.mark.parametrize(("candidate", "outcome"), [(650, "passed"), (651, "failed")])
@pytest.mark.usefixtures("verbose")
def test_counted_peaks_decide_max_memory(
    pytester, run_diffspeed, constant_clock, monkeypatch, candidate, outcome
):
    class Counted:
        """An allocator in which the call of the baseline takes 1000 bytes at its highest."""

        peaks = iter([1000, candidate])

        def reset_peak(self): ...

        def allocated(self):
            return self.own

        def peak_allocated(self):
            return next(self.peaks)

        def peak_reserved(self):
            return 4096

    monkeypatch.setattr(
        "pytest_diffspeed.accelerators.registry.allocator_of", lambda device: Counted()
    )
    monkeypatch.setattr("pytest_diffspeed.arms.prepared_arm.bytes_of", lambda *_: 0)
    Counted.own = 0
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.diffspeed("channels_last")
        @pytest.mark.max_memory(0.65)
        def test_memory(optimized_pipeline): pass
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(**{outcome: 1})
    share = candidate / 1000
    result.stdout.fnmatch_lines([f"*MiB, {share:.3g} of fp32's (counted)"])
    (gate,) = journaled(pytester, "gate")
    assert gate["evidence"] == "counted"
    assert gate["figures"]["baseline_peak_bytes"] == 1000
    assert gate["figures"]["candidate_peak_bytes"] == candidate
    assert gate["figures"]["candidate_reserved_bytes"] == 4096
    assert "0.65 are allowed" in gate["reason"]


@pytest.mark.parametrize(
    ("stacks", "over"),
    [("compile_max_autotune", "fp32"), ("channels_last", "compile_max_autotune")],
)
def test_the_memory_of_cuda_graphs_is_not_counted(
    pytester, run_diffspeed, constant_clock, monkeypatch, stacks, over
):
    """Neither the candidate's nor that of what it is compared with: it would pass falsely."""
    from pytest_diffspeed.techniques import apply
    from pytest_diffspeed.techniques.catalog.compile import Compile
    from pytest_diffspeed.techniques.observation import CudaGraphs

    real = apply._observe_compiled

    def as_on_a_gpu(*args):
        return replace(real(*args), cuda_graphs=CudaGraphs(launches=3))

    monkeypatch.setattr(apply, "_observe_compiled", as_on_a_gpu)
    monkeypatch.setattr(Compile, "backend", "eager")
    monkeypatch.setattr(
        "pytest_diffspeed.accelerators.registry.allocator_of", lambda device: object()
    )
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.diffspeed("{stacks}")
        @pytest.mark.max_memory(0.9, over="{over}")
        @pytest.mark.max_slowdown(25)
        def test_memory(optimized_pipeline): pass
        """
    )
    result = run_diffspeed()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*compile_max_autotune replays CUDA graphs (3 launched in a call)*cannot be counted*"]
    )
    verdicts = {gate["gate"]: gate["verdict"] for gate in journaled(pytester, "gate")}
    assert verdicts == {"max_memory": "NOT_APPLICABLE", "max_slowdown": "PASS"}
    (noted,) = journaled(pytester, "memory")  # beside the ratio: no figure that means nothing
    if stacks == "compile_max_autotune":
        assert "replays CUDA graphs" in noted["memory"]["candidate"]["error"]


@pytest.mark.parametrize("word", ["0", "two", "17", "-1"])
def test_instances_must_be_a_number_that_can_be_meant(pytester, run_diffspeed, word):
    result = run_diffspeed(f"--diffspeed-instances={word}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--diffspeed-instances: must be *"])


@pytest.mark.slow
def test_two_process_instances_stand_behind_the_verdict(
    pytester, run_diffspeed, short_noise_floor, monkeypatch
):
    """Five pairs would do, and each instance has as many as the other.  A pair that is dropped on a
    disturbed machine would shift that.
    """
    monkeypatch.setattr("pytest_diffspeed.accelerators.registry.disturbances_of", lambda kind: ())
    pytester.makepyfile(ONE_GATE.format(ratio='0.01, unit="denoiser"'))
    result = run_diffspeed("--diffspeed-instances=2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "diffspeed: building fp32 and channels_last in 2 worker processes each *",
            "*6 pairs of denoiser calls of step 1 (inputs of a real call), 2 process instances *",
        ]
    )
    pairs = journaled(pytester, "pair")
    assert {pair["instance"] for pair in pairs} == {0, 1}
    (gate,) = journaled(pytester, "gate")
    assert gate["figures"]["instances"] == 2


@pytest.mark.usefixtures("verbose")
def test_a_technique_of_a_conftest_cannot_be_built_in_a_worker(
    pytester, run_diffspeed, constant_clock
):
    pytester.makeconftest(
        """
        from pytest_diffspeed.techniques.catalog.layout import ChannelsLast

        class Mine(ChannelsLast):
            name = "mine"

        def pytest_diffspeed_techniques():
            return [Mine()]
        """
    )
    pytester.makepyfile(ONE_GATE.format(ratio=0.5).replace("channels_last", "mine"))
    result = run_diffspeed("--diffspeed-instances=2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*'technique mine' comes from plug-in *conftest.py', which worker*"]
    )

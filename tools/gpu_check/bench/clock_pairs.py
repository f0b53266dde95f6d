"""The baseline against itself: gates that must not be wrong too often, and the noise of pairs."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from checks import Found, NoMeaning, Part
from clock_bench import Bench
from timing_figures import milliseconds, noise_of, rate, told

GATES = 40
GATES_DRY = 6
SECONDS = 32.0
SECONDS_DRY = 18.0
LATER_S = 18.0
"""What the checks after the gates take."""
MAX_SLOWDOWN = 5.0
LEAST_PAIRS = 8
"""For each gate: five unanimous ones are the fewest that decide."""


def gate_checks(part: Part, floor: str, slowdown: str, bench: Callable[[], Bench]) -> None:
    """Both checks read the same gates: they share their rounds, as gates of one test do."""
    gates: list[dict[str, Any]] = []
    wanted = GATES_DRY if part.small else GATES
    expected = (
        f"wrong PASS and wrong FAIL of {wanted} gates each consistent with 5 % (its exact lower "
        "95 % bound is ≤ 5 %); half as many at least"
    )
    with part.check(floor, expected) as check:
        gates += _gate_itself(bench(), part, wanted)
        verdicts = [gate["min_speedup"]["verdict"] for gate in gates]
        passed, failed = (rate(verdicts.count(kind), len(gates)) for kind in ("PASS", "FAIL"))
        ratios = [gate["min_speedup"]["ratio"] for gate in gates]
        check.expect(
            passed["consistent"] and failed["consistent"] and _enough(gates, part),
            f"wrong PASS {told(passed)}, wrong FAIL {told(failed)}; median of the gates' ratios "
            f"{statistics.median(ratios):.4f}, "
            f"{statistics.median(gate['min_speedup']['pairs'] for gate in gates):g} pairs a gate",
            wrong_pass=passed,
            wrong_fail=failed,
            gates=gates,
        )
    with part.check(slowdown, "wrong FAIL consistent with 5 %, as above") as check:
        if not gates:
            raise RuntimeError("no gate was timed, see the check before")
        verdicts = [gate["max_slowdown"]["verdict"] for gate in gates]
        failed = rate(verdicts.count("FAIL"), len(gates))
        noise = statistics.median(gate["max_slowdown"]["noise"] for gate in gates)
        check.expect(
            failed["consistent"] and _enough(gates, part),
            f"wrong FAIL {told(failed)}; PASS {verdicts.count('PASS')}, INCONCLUSIVE "
            f"{verdicts.count('INCONCLUSIVE')}; noise {noise:.2%} a pair",
            wrong_fail=failed,
        )


def _enough(gates: list[dict[str, Any]], part: Part) -> bool:
    """Few gates are consistent with anything."""
    return len(gates) >= (1 if part.small else GATES // 2)


def _gate_itself(bench: Bench, part: Part, wanted: int) -> list[dict[str, Any]]:
    from pytest_diffspeed.accelerators.registry import disturbances_of
    from pytest_diffspeed.statistics import min_ratio_for_slowdown
    from pytest_diffspeed.timing.comparison import Hypothesis
    from pytest_diffspeed.timing.speedup import SpeedupMeasurement

    questions = [Hypothesis(1.0), Hypothesis(min_ratio_for_slowdown(MAX_SLOWDOWN))]
    arms = [bench.arm(bench.short_call), bench.arm(_second_call(bench, part.planted), "candidate")]
    pair_s = 2 * bench.seconds_of(bench.short_call)
    began = time.monotonic()
    seconds = min(SECONDS_DRY if part.small else SECONDS, part.time_left_s - LATER_S)
    gates: list[dict[str, Any]] = []
    while len(gates) < wanted and time.monotonic() - began < seconds:
        left = seconds - (time.monotonic() - began)
        # Warming up is not in a gate's budget: two calls of each arm at least.
        budget = left / (wanted - len(gates)) - 2 * pair_s
        seed = random.SystemRandom().randrange(2**32)
        results = SpeedupMeasurement(
            [arms],
            questions,
            budget_s=max(LEAST_PAIRS * pair_s * 1.2, budget),
            clock=bench.clock,
            seed=seed,
            disturbances=disturbances_of(bench.builder.device),
        ).run()
        gate = {}
        for name, result in zip(("min_speedup", "max_slowdown"), results, strict=True):
            gate[name] = {
                "verdict": str(result.verdict),
                "ratio": result.ratio,
                "pairs": result.pairs,
                "noise": result.noise,
                "call_s": result.baseline_s,
                "dropped": result.dropped_pairs,
                "overhead_s": result.round_overhead_s,
                "seed": seed,
            }
        gates.append(gate)
    return [gate for gate in gates if gate["min_speedup"]["pairs"]]


def _second_call(bench: Bench, planted: bool) -> Callable[[], object]:
    if not planted:
        return bench.short_call
    share = 0.2 * bench.seconds_of(bench.short_call) / bench.seconds_of(bench.denoiser)
    more = max(1, round(share))

    def slower() -> object:
        output = bench.short_call()
        for _ in range(more):
            bench.denoiser()
        return output

    return slower


def record_noise(check: Found, bench: Bench, unit: str, untimed: bool) -> None:
    function = bench.short_call if unit == "call" else bench.denoiser
    arms = [bench.arm(function), bench.arm(function, "candidate")]
    logs, calls = _pairs(bench, arms, untimed, seconds=1.7)
    figures = noise_of(logs)
    check.record(
        f"sd {figures['sd']:.2%}, robust {figures['robust_sd']:.2%}, lag-1 autocorrelation "
        f"{figures['autocorrelation']:+.2f}; {figures['pairs']} pairs of "
        f"{milliseconds(statistics.median(calls))} a call",
        **figures,
        logs=logs,
        calls_s=calls,
    )


def _pairs(
    bench: Bench, arms: list[Any], untimed: bool, seconds: float
) -> tuple[list[float], list[float]]:
    """Log ratios of rounds of two arms, and the seconds of the first arm."""
    from pytest_diffspeed.timing.rounds import measure_rounds
    from pytest_diffspeed.timing.warm_up import warm_up

    warm_up(arms, bench.clock)
    ends = time.monotonic() + seconds
    logs: list[float] = []
    calls: list[float] = []
    for round_ in measure_rounds([arms], bench.clock, seed=1, discard_warm_call=untimed):
        logs.append(math.log(round_.seconds[0] / round_.seconds[1]))
        calls.append(round_.seconds[0])
        if len(logs) >= 200 or (len(logs) >= 4 and time.monotonic() > ends):
            return logs, calls
    raise AssertionError("unreachable: rounds have no end")


def record_perturbation(check: Found, bench: Bench) -> None:
    """Calls right after a read, outside of what is timed, against calls without one."""
    if bench.kind != "cuda":
        raise NoMeaning("a CPU has no NVIDIA management library")
    from pytest_diffspeed.adapters.nvml import throttle_reasons
    from pytest_diffspeed.timing.arm import Arm

    device = bench.builder.device

    @contextmanager
    def after_a_read() -> Iterator[None]:
        with bench.prepared.running():
            throttle_reasons(device.key, device.index)
            yield

    read = Arm("after a read", bench.short_call, after_a_read)
    logs, calls = _pairs(bench, [bench.arm(bench.short_call), read], False, seconds=1.7)
    ratio = math.exp(-statistics.median(logs))
    check.record(
        f"calls after a read take {ratio:.4f} times as long, in {len(logs)} pairs of "
        f"{milliseconds(statistics.median(calls))} a call",
        **noise_of(logs),
        logs=logs,
    )

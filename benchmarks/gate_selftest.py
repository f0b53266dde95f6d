"""Does the speedup gate keep its promise? The gate, run on clocks that are written down.

    python benchmarks/gate_selftest.py --gates 2000     # the tables of docs/statistics.md
    python benchmarks/gate_selftest.py --quick          # under a minute

Every clock is a list of call times in which the *median* ratio of a pair is exactly what was
asked for, and nothing else is nice. At the threshold itself each PASS and each FAIL is false.

The sign gate is replayed for many gates at once with the functions that the gate itself uses
(``TIE_TOLERANCE``, ``critical_counts``); each clock's first gates also go through ``SpeedupGate``,
and a difference is an error. The bet is run as ``SpeedupGate`` throughout.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_diffspeed.statistics import (
    Decision,
    SpeedupGate,
    binomial_lower_bound,
    binomial_upper_bound,
)
from pytest_diffspeed.statistics.eprocess import TIE_TOLERANCE, critical_counts

Array = NDArray[np.float64]
Random = np.random.Generator

CALL_SECONDS = 0.5
CALL_NOISE = 0.05  # sd of one call's log time; a pair has sqrt(2) times that, 7 %
PROMISED = 0.05
PAIRS = 200
CHUNK = 1000  # gates simulated at a time, to bound memory

# --- Clocks -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """A way in which call times come about.

    ``times(random, gates, pairs, ratio)`` returns baseline and candidate seconds, each of shape
    gates x pairs, whose pairs have the median ratio ``ratio``.
    """

    name: str
    times: Callable[[Random, int, int, float], tuple[Array, Array]]


def order_of_calls(
    random: Random, gates: int, pairs: int, block: int | None = None
) -> NDArray[np.bool_]:
    """Return where the baseline runs first: a coin a pair, or a shuffled half of each block."""
    if block is None:
        return random.random((gates, pairs)) < 0.5
    blocks = -(-pairs // block)
    ranks = random.random((gates, blocks, block)).argsort(axis=2)
    return (ranks < block // 2).reshape(gates, blocks * block)[:, :pairs]


def machine(
    noise: Callable[[Random, int, int], Array], block: int | None = None
) -> Callable[..., tuple[Array, Array]]:
    """Return a clock whose log noise belongs to the call, not to the arm: gates x calls."""

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        calls = noise(random, gates, 2 * pairs).reshape(gates, pairs, 2)
        first = order_of_calls(random, gates, pairs, block)
        baseline = np.where(first, calls[:, :, 0], calls[:, :, 1])
        candidate = np.where(first, calls[:, :, 1], calls[:, :, 0]) - math.log(ratio)
        return CALL_SECONDS * np.exp(baseline), CALL_SECONDS * np.exp(candidate)

    return times


def gaussian(random: Random, gates: int, calls: int) -> Array:
    return CALL_NOISE * random.standard_normal((gates, calls))


def spikes(random: Random, gates: int, calls: int) -> Array:
    """One call in ten takes longer, by 50 % on average."""
    spiky = random.random((gates, calls)) < 0.1
    return gaussian(random, gates, calls) + spiky * np.log1p(
        random.exponential(0.5, (gates, calls))
    )


def neighbour(random: Random, gates: int, calls: int) -> Array:
    """A neighbour who comes for 20 calls on average, and then takes 30 % and doubles the noise."""
    switch = random.random((gates, calls)) < 1 / 20
    start = random.random((gates, 1)) < 0.5
    busy = (np.cumsum(switch, axis=1) + start) % 2 == 1
    return np.where(busy, 2.0, 1.0) * gaussian(random, gates, calls) + busy * math.log(1.3)


def drift(random: Random, gates: int, calls: int) -> Array:
    """The machine slows down by 0.25 % with each call, half a noise sd in ten calls."""
    return gaussian(random, gates, calls) + 0.0025 * np.arange(calls)


def second_position(bias: float) -> Callable[[Random, int, int], Array]:
    def noise(random: Random, gates: int, calls: int) -> Array:
        return gaussian(random, gates, calls) + bias * (np.arange(calls) % 2)

    return noise


def alternating(random: Random, gates: int, calls: int) -> Array:
    """The first call is slow in one pair and the second in the next, by 30 %: a period of four."""
    return gaussian(random, gates, calls) + 0.30 * np.isin(np.arange(calls) % 4, (0, 3))


def regime(factor: float, dwell: float) -> Callable[[Random, int, int], Array]:
    """The machine is fast or slow by turns, each for ``dwell`` calls on average."""

    def noise(random: Random, gates: int, calls: int) -> Array:
        switch = random.random((gates, calls)) < 1 / dwell
        start = random.random((gates, 1)) < 0.5
        slow = (np.cumsum(switch, axis=1) + start) % 2 == 1
        return gaussian(random, gates, calls) + slow * math.log(factor)

    return noise


def bimodal(random: Random, gates: int, calls: int) -> Array:
    """Each call is fast or slow by 13 %, with hardly any noise beside that."""
    return 0.2 * gaussian(random, gates, calls) + 0.13 * (random.random((gates, calls)) < 0.5)


def random_walk(random: Random, gates: int, calls: int) -> Array:
    steps = 0.02 * random.standard_normal((gates, calls))
    return gaussian(random, gates, calls) + np.cumsum(steps, axis=1)


def student(random: Random, gates: int, calls: int) -> Array:
    return 0.03 * random.standard_t(2, (gates, calls))


def throttled(random: Random, gates: int, calls: int) -> Array:
    """A processor that heats up over 60 calls, by 30 %, and then cools down at once."""
    return gaussian(random, gates, calls) + 0.3 * (np.arange(calls) % 60) / 60


def periodic(period: int) -> Callable[[Random, int, int], Array]:
    """Half of each ``period`` calls is slower by 20 %."""

    def noise(random: Random, gates: int, calls: int) -> Array:
        phase = random.integers(0, period, (gates, 1))
        slow = (np.arange(calls) + phase) % period < period / 2
        return gaussian(random, gates, calls) + 0.2 * slow

    return noise


def outliers(random: Random, gates: int, calls: int) -> Array:
    """Each seventh call takes ten times as long."""
    return gaussian(random, gates, calls) + math.log(10) * (np.arange(calls) % 7 == 0)


def slow_start(random: Random, gates: int, calls: int) -> Array:
    """The first 60 calls, 30 of each arm, take up to 50 % longer."""
    return gaussian(random, gates, calls) + np.log1p(0.5 * np.clip(1 - np.arange(calls) / 60, 0, 1))


def windows(period_s: float) -> Callable[..., tuple[Array, Array]]:
    """The machine is slower by 40 % in the first half of each ``period_s`` seconds."""

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        noise = CALL_SECONDS * np.exp(gaussian(random, gates, 2 * pairs)).reshape(gates, pairs, 2)
        first = order_of_calls(random, gates, pairs)
        seconds = np.empty((2, gates, pairs))
        now = random.random(gates) * period_s
        for pair in range(pairs):
            for position in (0, 1):
                is_baseline = first[:, pair] == (position == 0)
                took = noise[:, pair, position] * np.where(is_baseline, 1.0, 1 / ratio)
                took *= np.where(now % period_s < period_s / 2, 1.4, 1.0)
                seconds[position, :, pair] = took
                now = now + took
        baseline = np.where(first, seconds[0], seconds[1])
        return baseline, np.where(first, seconds[1], seconds[0])

    return times


def unlike_noise(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
    """A baseline with 1 % noise and a candidate with 10 %."""
    baseline = 0.01 * random.standard_normal((gates, pairs))
    candidate = 0.10 * random.standard_normal((gates, pairs))
    return CALL_SECONDS * np.exp(baseline), CALL_SECONDS * np.exp(candidate) / ratio


def candidate_slower_when_second(bias: float) -> Callable[..., tuple[Array, Array]]:
    """The candidate alone is slower after the baseline, and faster before it by as much."""

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        baseline, candidate = machine(gaussian)(random, gates, pairs, ratio)
        second = order_of_calls(random, gates, pairs)
        return baseline, candidate * np.exp(np.where(second, bias / 2, -bias / 2))

    return times


def autoregressive(rho: float) -> Callable[[Random, int, int], Array]:
    def noise(random: Random, gates: int, calls: int) -> Array:
        shocks = gaussian(random, gates, calls)
        out = np.empty_like(shocks)
        out[:, 0] = shocks[:, 0]
        for call in range(1, calls):
            out[:, call] = rho * out[:, call - 1] + math.sqrt(1 - rho * rho) * shocks[:, call]
        return out

    return noise


def spikes_in_one_arm(arm: str) -> Callable[..., tuple[Array, Array]]:
    """One arm has spikes of 50 % in one call of ten, the other has none; the median is exact."""
    pair_noise, height = math.sqrt(2) * CALL_NOISE, math.log(1.5)

    def below(median: float) -> float:
        return 0.9 * _phi(median / pair_noise) + 0.1 * _phi((median - height) / pair_noise)

    low, high = 0.0, height
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < 0.5 else (low, middle)
    shift = low  # the median of (spiky - quiet)

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        spiky = gaussian(random, gates, pairs) + height * (random.random((gates, pairs)) < 0.1)
        spiky -= shift
        quiet = gaussian(random, gates, pairs)
        baseline, candidate = (spiky, quiet) if arm == "baseline" else (quiet, spiky)
        return CALL_SECONDS * np.exp(baseline), CALL_SECONDS * np.exp(candidate) / ratio

    return times


def ticking(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
    """A clock with a tick of 1/20 of a call: one pair in four ties. Exact at ratio 1 only."""
    baseline, candidate = machine(gaussian)(random, gates, pairs, ratio)
    tick = CALL_SECONDS / 20
    return tick * np.round(baseline / tick), tick * np.round(candidate / tick)


def lopsided_ties(arm: str) -> Callable[..., tuple[Array, Array]]:
    """P(above) = 0.48, P(tie) = 0.40, P(below) = 0.12: the median is the tie, exactly."""

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        step = random.choice([21.0, 20.0, 19.0], p=[0.48, 0.40, 0.12], size=(gates, pairs))
        steady = np.full((gates, pairs), 20.0)
        baseline, candidate = (step, steady) if arm == "baseline" else (steady, step)
        return 0.1 * baseline * ratio, 0.1 * candidate

    return times


def waves_of_one_arm(rho: float) -> Callable[..., tuple[Array, Array]]:
    """The candidate's own noise is correlated from pair to pair: outside the promise."""

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        baseline = gaussian(random, gates, pairs)
        candidate = autoregressive(rho)(random, gates, pairs)
        return CALL_SECONDS * np.exp(baseline), CALL_SECONDS * np.exp(candidate) / ratio

    return times


def process_effect(sd: float) -> Callable[..., tuple[Array, Array]]:
    """Each gate's candidate process is faster or slower for good: outside the promise."""

    def times(random: Random, gates: int, pairs: int, ratio: float) -> tuple[Array, Array]:
        baseline, candidate = machine(gaussian)(random, gates, pairs, ratio)
        return baseline, candidate * np.exp(sd * random.standard_normal((gates, 1)))

    return times


def _phi(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


GAUSSIAN = Clock("Gaussian", machine(gaussian))
SPIKES = Clock("10 % spikes", machine(spikes))
NEIGHBOUR = Clock("noisy neighbour, dwell 20 calls", machine(neighbour))
CLOCKS = (
    GAUSSIAN,
    SPIKES,
    NEIGHBOUR,
    Clock("drift, 0.25 % a call", machine(drift)),
    Clock("second call 5 % slower", machine(second_position(0.05))),
    Clock("second call 30 % slower", machine(second_position(0.30))),
    Clock("slow calls with a period of four", machine(alternating)),
    Clock("spikes in the baseline only", spikes_in_one_arm("baseline")),
    Clock("spikes in the candidate only", spikes_in_one_arm("candidate")),
    Clock("coarse ticks, 26 % ties", ticking),
    Clock("40 % ties, 48 % above", lopsided_ties("baseline")),
    Clock("40 % ties, 48 % below", lopsided_ties("candidate")),
    Clock("autocorrelated machine, 0.6", machine(autoregressive(0.6))),
    Clock("autocorrelated machine, 0.95", machine(autoregressive(0.95))),
    Clock("fast and slow by 30 %, dwell 2 calls", machine(regime(1.3, 2))),
    Clock("fast and slow by 100 %, dwell 60 calls", machine(regime(2.0, 60))),
    Clock("each call fast or slow by 13 %", machine(bimodal)),
    Clock("random walk, 2 % a call", machine(random_walk)),
    Clock("Student's t with 2 degrees of freedom", machine(student)),
    Clock("throttling each 60 calls, by 30 %", machine(throttled)),
    Clock("slow calls with a period of three", machine(periodic(3))),
    Clock("slow calls with a period of seven", machine(periodic(7))),
    Clock("slow calls with a period of 40", machine(periodic(40))),
    Clock("each seventh call takes ten times as long", machine(outliers)),
    Clock("first 30 calls of each arm slower", machine(slow_start)),
    Clock("slow for half of each 2.05 s (two pairs)", windows(2.05)),
    Clock("noise of 1 % in one arm, 10 % in the other", unlike_noise),
    Clock("candidate alone slower when second, 3 %", candidate_slower_when_second(0.03)),
)
"""The promise covers these."""

OUTSIDE = (
    Clock("one arm's noise correlated, 0.2", waves_of_one_arm(0.2)),
    Clock("one arm's noise correlated, 0.5", waves_of_one_arm(0.5)),
    Clock("one arm's noise correlated, 0.8", waves_of_one_arm(0.8)),
    Clock("candidate process 1 % off for good", process_effect(0.01)),
    Clock("candidate process 2 % off for good", process_effect(0.02)),
)
"""The promise does not cover these: what belongs to one arm and lasts looks like speed."""

BET_CLOCKS = tuple(
    clock
    for clock in CLOCKS
    if clock.name
    in {
        "Gaussian",
        "10 % spikes",
        "noisy neighbour, dwell 20 calls",
        "second call 30 % slower",
        "coarse ticks, 26 % ties",
        "autocorrelated machine, 0.95",
    }
)
"""Noise that is symmetric about the threshold, which is the bet's own null."""

BET_OUTSIDE = tuple(clock for clock in CLOCKS if "spikes in the" in clock.name)

# --- Gates ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcomes:
    """What many gates decided, and after how many pairs (``pairs`` of budget if they did not)."""

    passed: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    pairs: NDArray[np.int64]

    @property
    def gates(self) -> int:
        return len(self.pairs)


def sign_outcomes(baseline: Array, candidate: Array, min_ratio: float = 1.0) -> Outcomes:
    """Decide all gates (rows) at once, by the arithmetic of ``SpeedupGate``."""
    xs = np.log(baseline) - np.log(candidate) - math.log(min_ratio)
    pairs = xs.shape[1]
    counts = critical_counts(pairs, PROMISED)
    first_pass = _first(np.cumsum(xs >= TIE_TOLERANCE, axis=1) >= counts)
    first_fail = _first(np.cumsum(xs < -TIE_TOLERANCE, axis=1) >= counts)
    return Outcomes(
        passed=first_pass < first_fail,
        failed=first_fail < first_pass,
        pairs=np.minimum(np.minimum(first_pass, first_fail), pairs),
    )


def gate_outcomes(
    baseline: Array, candidate: Array, min_ratio: float = 1.0, method: str = "sign"
) -> Outcomes:
    """Decide each gate by a ``SpeedupGate`` of its own."""
    gates = [
        SpeedupGate(min_ratio, PROMISED, PROMISED, baseline.shape[1], method) for _ in baseline
    ]
    for gate, row in zip(gates, np.stack((baseline, candidate), axis=2).tolist(), strict=True):
        for pair in row:
            if gate.update(*pair) is not None:
                break
    return Outcomes(
        passed=np.array([gate.decision is Decision.PASS for gate in gates]),
        failed=np.array([gate.decision is Decision.FAIL for gate in gates]),
        pairs=np.array([gate.pairs for gate in gates]),
    )


def _first(reached: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the first pair (1, 2, ...) at which each row is reached; pairs + 1 if never."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, reached.shape[1] + 1)


def simulate(
    clock: Clock,
    gates: int,
    *,
    pairs: int = PAIRS,
    ratio: float = 1.0,
    method: str = "sign",
    seed: int = 1,
    replayed: int = 5,
) -> Outcomes:
    """Run ``gates`` gates of ``min_ratio=1`` on a clock whose median ratio is ``ratio``."""
    random = np.random.default_rng((seed, *clock.name.encode()))
    parts = []
    for start in range(0, gates, CHUNK):
        size = min(CHUNK, gates - start)
        baseline, candidate = clock.times(random, size, pairs, ratio)
        if method == "sign":
            part = sign_outcomes(baseline, candidate)
            real = gate_outcomes(baseline[:replayed], candidate[:replayed])
            assert (real.passed == part.passed[:replayed]).all(), clock.name
            assert (real.failed == part.failed[:replayed]).all(), clock.name
            assert (real.pairs == part.pairs[:replayed]).all(), clock.name
        else:
            part = gate_outcomes(baseline, candidate, method=method)
        parts.append(part)
    return Outcomes(
        passed=np.concatenate([part.passed for part in parts]),
        failed=np.concatenate([part.failed for part in parts]),
        pairs=np.concatenate([part.pairs for part in parts]),
    )


# --- Tables -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ErrorRate:
    """A false verdict's rate with its exact one-sided 95 % bounds."""

    count: int
    gates: int

    @property
    def upper(self) -> float:
        return binomial_upper_bound(self.count, self.gates)

    @property
    def judgement(self) -> str:
        """Return "holds" if more than 5 % is excluded, "broken" if 5 % or less is."""
        if self.upper < PROMISED:
            return "holds"
        broken = binomial_lower_bound(self.count, self.gates) > PROMISED
        return "broken" if broken else "open"

    def __str__(self) -> str:
        return f"{self.count / self.gates:.1%} (≤ {self.upper:.1%})"


def error_rates(
    clock: Clock, gates: int, method: str = "sign", pairs: int = PAIRS
) -> tuple[ErrorRate, ErrorRate]:
    """Return the rates of false PASS and false FAIL with the median exactly on the threshold."""
    outcomes = simulate(clock, gates, pairs=pairs, method=method)
    return (
        ErrorRate(int(outcomes.passed.sum()), gates),
        ErrorRate(int(outcomes.failed.sum()), gates),
    )


def error_table(clocks: tuple[Clock, ...], gates: int, method: str = "sign") -> Iterator[str]:
    yield "| clock | false PASS | false FAIL | at most 5 % |"
    yield "|---|---|---|---|"
    for clock in clocks:
        false_pass, false_fail = error_rates(clock, gates, method)
        words = {false_pass.judgement, false_fail.judgement}
        word = next(word for word in ("broken", "open", "holds") if word in words)
        yield f"| {clock.name} | {false_pass} | {false_fail} | {word} |"


def order_table(gates: int) -> Iterator[str]:
    """What the length of a balanced block does: short ones give the order of the next call away."""
    yield "| order | slow calls with a period of four | second call 30 % slower |"
    yield "|---|---|---|"
    for block in (2, 4, 10, 20, None):
        cells = []
        for name, noise in (("alternating", alternating), ("second", second_position(0.30))):
            false_pass, false_fail = error_rates(Clock(name, machine(noise, block)), gates)
            cells.append(f"{false_pass}, {false_fail}")
        order = f"balanced in blocks of {block} pairs" if block else "a coin for each pair"
        yield f"| {order} | {' | '.join(cells)} |"


GAPS = (0.03, -0.03, 0.05, -0.05, 0.10, -0.10, 0.20, -0.20)


def power_table(gates: int, clocks: tuple[Clock, ...] = CLOCKS[:6]) -> Iterator[str]:
    yield "| clock | " + " | ".join(f"{gap:+.0%}" for gap in GAPS) + " |"
    yield "|---|" + "---|" * len(GAPS)
    for clock in clocks:
        cells = []
        for gap in GAPS:
            outcomes = simulate(clock, gates, ratio=1 + gap)
            right = outcomes.passed if gap > 0 else outcomes.failed
            cells.append(f"{right.mean():.0%}, {outcomes.pairs.mean():.0f}")
        yield f"| {clock.name} | " + " | ".join(cells) + " |"


WELCH_CALLS = 20  # of each arm, in the rule that people use
STUDENT_95 = 1.686  # the one-sided 5 % point of Student's t with 38 degrees of freedom
BLOCK_NOISE = {GAUSSIAN.name: gaussian, SPIKES.name: spikes, NEIGHBOUR.name: neighbour}
FIXED_SIZES = (4, 5, 6, 7, 8, 10, 12, 14, 17, 20, 25, 30, 40, 50, 60, 80, 100, 125, 150, 200)


Score = Callable[[Array, Array], Array]


def welch(baseline: Array, candidate: Array) -> Array:
    """Return Welch's t of each row.

    Source: B. L. Welch, *The generalization of 'Student's' problem*, Biometrika 1947.
    """
    calls = baseline.shape[1]
    variance = baseline.var(axis=1, ddof=1) + candidate.var(axis=1, ddof=1)
    return (baseline.mean(axis=1) - candidate.mean(axis=1)) / np.sqrt(variance / calls)


def mann_whitney(baseline: Array, candidate: Array) -> Array:
    """Return the baseline's rank sum in each row, up to a constant.

    Source: H. B. Mann, D. R. Whitney, *On a test of whether one of two random variables is
    stochastically larger than the other*, Ann. Math. Statist. 1947.
    """
    calls = baseline.shape[1]
    order = np.concatenate((baseline, candidate), axis=1).argsort(axis=1)
    return ((order < calls) * np.arange(2 * calls)).sum(axis=1).astype(float)


def fixed_scores(
    clock: Clock,
    gates: int,
    ratio: float,
    layout: str,
    seed: int,
    calls: int = WELCH_CALLS,
    scores: tuple[Score, ...] = (welch,),
) -> list[Array]:
    """Return scores of the log times of ``calls`` calls of each arm, in blocks or in pairs."""
    random = np.random.default_rng((seed, *clock.name.encode()))
    found: list[list[Array]] = [[] for _ in scores]
    for start in range(0, gates, CHUNK):
        size = min(CHUNK, gates - start)
        if layout == "blocks":  # all calls of the baseline, then all of the candidate
            noise = BLOCK_NOISE[clock.name](random, size, 2 * calls)
            baseline, candidate = noise[:, :calls], noise[:, calls:] - math.log(ratio)
        else:
            seconds = clock.times(random, size, calls, ratio)
            baseline, candidate = np.log(seconds[0]), np.log(seconds[1])
        for own, score in zip(found, scores, strict=True):
            own.append(score(baseline, candidate))
    return [np.concatenate(own) for own in found]


def fixed_error_table(gates: int) -> Iterator[str]:
    """Welch's test as printed in the textbook, beside the gate: false PASS at the threshold."""
    yield "| clock | Welch 20 + 20, in blocks | Welch 20 + 20, in pairs | gate |"
    yield "|---|---|---|---|"
    for clock in (GAUSSIAN, SPIKES, NEIGHBOUR):
        cells = []
        for layout in ("blocks", "pairs"):
            (scores,) = fixed_scores(clock, gates, 1.0, layout, seed=2)
            cells.append(str(ErrorRate(int((scores > STUDENT_95).sum()), gates)))
        cells.append(str(error_rates(clock, gates)[0]))
        yield f"| {clock.name} | " + " | ".join(cells) + " |"


def fixed_calls_table(gates: int) -> Iterator[str]:
    """Calls to a PASS: the gate, and two fixed rules at the gate's own error rate on that clock.

    The fixed rules get what no user has: their critical value is set on the clock at hand. In the
    last columns they also know the gap, and take the fewest calls that match the gate's share of
    right verdicts (or 99 %, if that is less).
    """
    yield (
        "| clock | gap | gate: right, calls | Welch 20 + 20: right, calls | ratio of calls "
        "| Welch as often right: calls | ratio of calls "
        "| Mann–Whitney as often right: calls | ratio of calls |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    tests = (welch, mann_whitney)
    for clock in (GAUSSIAN, SPIKES, NEIGHBOUR):
        error = float(simulate(clock, gates).passed.mean())
        cuts = {
            calls: [
                float(np.quantile(scores, 1 - error))
                for scores in fixed_scores(clock, 2 * gates, 1.0, "pairs", 2, calls, tests)
            ]
            for calls in FIXED_SIZES
        }
        for gap in (gap for gap in GAPS if gap > 0):
            runs = simulate(clock, gates, ratio=1 + gap)
            spent, right = 2 * float(runs.pairs.mean()), float(runs.passed.mean())
            shares = {
                calls: [
                    float((scores > cut).mean())
                    for scores, cut in zip(
                        fixed_scores(clock, gates, 1 + gap, "pairs", 3, calls, tests),
                        cuts[calls],
                        strict=True,
                    )
                ]
                for calls in FIXED_SIZES
            }
            cells = []
            for test in range(len(tests)):
                enough = [
                    2 * calls for calls in FIXED_SIZES if shares[calls][test] >= min(right, 0.99)
                ]
                cells.append(f"{enough[0]} | {spent / enough[0]:.2f}" if enough else "over 400 | -")
            yield (
                f"| {clock.name} | {gap:+.0%} | {right:.0%}, {spent:.0f} "
                f"| {shares[WELCH_CALLS][0]:.0%}, {2 * WELCH_CALLS} "
                f"| {spent / (2 * WELCH_CALLS):.2f} | {' | '.join(cells)} |"
            )


def report(gates: int, bet_gates: int) -> Iterator[str]:
    many = 2 * gates  # the exact rate is 4.5 %: fewer leave too many clocks open
    yield f"### Sign: the median ratio exactly on the threshold ({many} gates, {PAIRS} pairs)"
    yield ""
    yield from error_table(CLOCKS, many)
    yield ""
    yield f"### Sign: outside the promise ({gates} gates, {PAIRS} pairs)"
    yield ""
    yield from error_table(OUTSIDE, gates)
    yield ""
    yield f"### Sign: order of the calls, false PASS, false FAIL ({gates} gates, {PAIRS} pairs)"
    yield ""
    yield from order_table(gates)
    yield ""
    yield f"### Sign: share decided rightly, mean pairs ({gates} gates, at most {PAIRS} pairs)"
    yield ""
    yield from power_table(gates)
    yield ""
    yield f"### A fixed number of calls: false PASS at the threshold ({gates} runs)"
    yield ""
    yield from fixed_error_table(gates)
    yield ""
    few = min(gates, 4000)
    yield f"### A fixed number of calls: calls to a PASS at equal error rate ({few} runs)"
    yield ""
    yield from fixed_calls_table(few)
    yield ""
    yield f"### Bet: noise symmetric about the threshold ({bet_gates} gates, {PAIRS} pairs)"
    yield ""
    yield from error_table(BET_CLOCKS, bet_gates, "bet")
    yield ""
    yield f"### Bet: outside its null, the median on the threshold ({bet_gates} gates)"
    yield ""
    yield from error_table(BET_OUTSIDE, bet_gates, "bet")


QUICK_GATES = 4000  # per clock in the test-suite, of so many pairs
QUICK_PAIRS = 100
QUICK_BET_GATES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gates", type=int, default=20_000, help="gates per clock, sign method")
    parser.add_argument("--bet-gates", type=int, default=6000, help="gates per clock, bet method")
    parser.add_argument("--quick", action="store_true", help="2000 gates, and 100 for the bet")
    options = parser.parse_args()
    gates, bet_gates = options.gates, options.bet_gates
    if options.quick:
        gates, bet_gates = 2000, QUICK_BET_GATES
    started = time.perf_counter()
    for line in report(gates, bet_gates):
        print(line, flush=True)
    print(f"\nTook {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main()

"""Two trees with the same code, timed as against a base: how often is a verdict wrong?

    python benchmarks/base_instances.py --trials 40 --out build/base_instances.jsonl

What differs between two processes for good is not noise within them, and it does not care that the
code is the same.  Each trial starts fresh worker processes, four pairs of "base" and "head", all
with the same pipeline, and asks for three verdicts of the first pair of processes, of the first two
and of all four:

    max_slowdown(2), max_slowdown(5)   a FAIL is a wrong one
    min_speedup(1.0)                   any verdict is a wrong one

Trials are appended to the file as they end, so a run can be stopped and gone on with; the tables
are printed from the file.  What gates do for three instances and more, hold pairs against the
medians of the processes, is done here once more, with those at the end: a file that was written
before they did it tells the same.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from pathlib import Path

from trials import collect, measured_on, moment, spread

from pytest_diffspeed.accelerators.registry import disturbances_of, resolve_device
from pytest_diffspeed.arms.worker.arm import worker_arms
from pytest_diffspeed.arms.worker.protocol import BuildOrder
from pytest_diffspeed.statistics import binomial_upper_bound, min_ratio_for_slowdown
from pytest_diffspeed.statistics.processes import LEAST_PROCESSES, spread_over_processes
from pytest_diffspeed.timing.comparison import Hypothesis
from pytest_diffspeed.timing.rounds import Pair
from pytest_diffspeed.timing.speedup import SpeedupMeasurement

INSTANCES = (1, 2, 4)
GATES = {
    "max_slowdown(2)": min_ratio_for_slowdown(2),
    "max_slowdown(5)": min_ratio_for_slowdown(5),
    "min_speedup(1.0)": 1.0,
}
WRONG = {"min_speedup(1.0)": ("PASS", "FAIL")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40, help="trials in the file, in the end")
    parser.add_argument("--out", type=Path, default=Path("build/base_instances.jsonl"))
    parser.add_argument("--source", default="demo", help="the pipeline of both")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps of a call")
    parser.add_argument("--budget", type=float, default=8.0, help="seconds of pairs a gate")
    arguments = parser.parse_args()
    done = collect(
        arguments.out,
        arguments.trials,
        lambda: trial(arguments.source, arguments.steps, arguments.budget),
    )
    for line in report(done, arguments):
        print(line)


def trial(source: str, steps: int, budget_s: float) -> dict:
    """All verdicts, once, of fresh processes."""
    order = BuildOrder(source, "fp32", "call", "cpu", steps, (), 1)
    with worker_arms([("base", order), ("head", order)], max(INSTANCES)) as instances:
        found = {str(count): judged(instances[:count], budget_s) for count in INSTANCES}
    return {**moment(), "instances": found}


def judged(instances: list, budget_s: float) -> dict:
    logs: dict[int, list[float]] = {}

    def keep(number: int, pair: Pair) -> None:
        if number == len(GATES) - 1 and pair.dropped is None:
            ratio = math.log(pair.baseline_s / pair.candidate_s)
            logs.setdefault(pair.instance, []).append(ratio)

    results = SpeedupMeasurement(
        instances,
        [Hypothesis(min_ratio) for min_ratio in GATES.values()],
        budget_s=budget_s,
        seed=random.SystemRandom().randrange(2**32),
        disturbances=disturbances_of(resolve_device("cpu")),
        on_pair=keep,
    ).run()
    return {
        "call_s": results[0].baseline_s,
        "noise": results[-1].noise,
        "medians": [statistics.median(found) for _, found in sorted(logs.items())],
        "gates": {
            name: {
                "verdict": str(result.verdict),
                "ratio": result.ratio,
                "low": result.low,
                "high": result.high,
                "pairs": result.pairs,
            }
            for name, result in zip(GATES, results, strict=True)
        },
    }


def over_processes(gate: dict, medians: list[float], min_ratio: float) -> dict:
    """The gate's result with what its processes say of others."""
    if len(medians) < LEAST_PROCESSES:
        return gate
    spread = spread_over_processes(medians, 0.05 / 2)
    low, high = math.exp(spread.low), math.exp(spread.high)
    holds = {"PASS": low >= min_ratio, "FAIL": high < min_ratio}.get(gate["verdict"], True)
    return {
        **gate,
        "verdict": gate["verdict"] if holds else "INCONCLUSIVE",
        "low": min(gate["low"], low),
        "high": max(gate["high"], high),
    }


def report(trials: list[dict], arguments: argparse.Namespace):
    many = len(trials)
    columns = ("gate", "process instances", "PASS", "FAIL", "INCONCLUSIVE", "wrong (true share ≤)")
    columns += ("interval without 1 (true share ≤)", "median pairs")
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for name in GATES:
        for count in INSTANCES:
            found = [trial["instances"][str(count)] for trial in trials]
            gates = [over_processes(x["gates"][name], x["medians"], GATES[name]) for x in found]
            verdicts = [gate["verdict"] for gate in gates]
            counts = [verdicts.count(kind) for kind in ("PASS", "FAIL", "INCONCLUSIVE")]
            wrong = sum(verdict in WRONG.get(name, ("FAIL",)) for verdict in verdicts)
            missed = sum(not gate["low"] <= 1.0 <= gate["high"] for gate in gates)
            yield (
                f"| {name} | {count} | {counts[0]} | {counts[1]} | {counts[2]} "
                f"| {wrong} of {many} ({binomial_upper_bound(wrong, many):.0%}) "
                f"| {missed} of {many} ({binomial_upper_bound(missed, many):.0%}) "
                f"| {statistics.median(gate['pairs'] for gate in gates):g} |"
            )
    most = str(max(INSTANCES))
    medians = [m for trial in trials for m in trial["instances"][most]["medians"]]
    calls = [trial["instances"][most]["call_s"] for trial in trials]
    noises = [trial["instances"][most]["noise"] for trial in trials]
    yield ""
    yield (
        f"{many} trials, {trials[0]['at']} to {trials[-1]['at']}; {arguments.source}, a call of "
        f"{statistics.median(calls):.3f} s; budget {arguments.budget:g} s a gate; noise of a pair "
        f"{statistics.median(noises):.1%} in the median; the medians of {len(medians)} pairs of "
        f"processes have a standard deviation of {statistics.stdev(medians):.2%}; from "
        f"{LEAST_PROCESSES} instances on with the interval over processes; load of the "
        f"machine {spread([trial['load'] for trial in trials])}"
    )
    yield measured_on()


if __name__ == "__main__":
    main()

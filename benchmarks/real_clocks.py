"""The speedup gate on real clocks: is it as often wrong, and as often right, as it says?

    python benchmarks/real_clocks.py --trials 40 --out build/real_clocks.jsonl

Each trial starts fresh worker processes, each with the demo pipeline of its own: two that do the
same work (four short calls at a time) and one that does 1.25 times as much (five).  Four gates
share their rounds:

    A against A   min_speedup(1.0), two processes   any verdict is a wrong one
    A against A   min_speedup(1.0), one process     the same, without what differs between processes
    A against A   min_speedup(0.8), two processes   ought to PASS
    A against B   max_slowdown(5), two processes    ought to FAIL

Trials are appended to the file as they end, so a run can be stopped and gone on with; the table is
printed from the file.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from pathlib import Path

from trials import collect, measured_on, moment, spread

from pytest_diffspeed.accelerators.registry import disturbances_of, resolve_device
from pytest_diffspeed.arms.worker.arm import worker_arms
from pytest_diffspeed.arms.worker.protocol import BuildOrder
from pytest_diffspeed.statistics import (
    binomial_lower_bound,
    binomial_upper_bound,
    min_ratio_for_slowdown,
)
from pytest_diffspeed.timing.comparison import Hypothesis
from pytest_diffspeed.timing.speedup import SpeedupMeasurement

FIRST, SECOND, SLOWED, FIRST_AGAIN = range(4)
GATES = {
    "min_speedup(1.0), two processes": Hypothesis(1.0, FIRST, SECOND),
    "min_speedup(1.0), one process": Hypothesis(1.0, FIRST, FIRST_AGAIN),
    "min_speedup(0.8), two processes": Hypothesis(0.8, FIRST, SECOND),
    "max_slowdown(5), 1.25 × the work": Hypothesis(min_ratio_for_slowdown(5), FIRST, SLOWED),
}
RIGHT = {
    "min_speedup(0.8), two processes": "PASS",
    "max_slowdown(5), 1.25 × the work": "FAIL",
}
AT_LEAST = 36 / 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40, help="trials in the file, in the end")
    parser.add_argument("--out", type=Path, default=Path("build/real_clocks.jsonl"))
    parser.add_argument("--budget", type=float, default=8.0, help="seconds a gate")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads in each worker")
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))  # workers find the sources there
    done = collect(
        arguments.out, arguments.trials, lambda: trial(arguments.budget, arguments.threads)
    )
    for line in report(done, arguments):
        print(line)


def trial(budget_s: float, threads: int) -> dict:
    """The four gates, once, in fresh processes."""

    def order(source: str) -> BuildOrder:
        return BuildOrder(source, "fp32", "call", "cpu", 1, (), threads)

    four, five = order("repeated:four"), order("repeated:five")
    seed = random.SystemRandom().randrange(2**32)
    with worker_arms([("A", four), ("A'", four), ("B", five)], 1) as ((first, second, slowed),):
        results = SpeedupMeasurement(
            [[first, second, slowed, first]],
            list(GATES.values()),
            budget_s=budget_s,
            seed=seed,
            disturbances=disturbances_of(resolve_device("cpu")),
        ).run()
    return {
        **moment(),
        "seed": seed,
        "call_s": results[0].baseline_s,
        "overhead_s": results[0].round_overhead_s,
        "gates": {
            name: {
                "verdict": str(result.verdict),
                "ratio": result.ratio,
                "pairs": result.pairs,
                "noise": result.noise,
            }
            for name, result in zip(GATES, results, strict=True)
        },
    }


def report(trials: list[dict], arguments: argparse.Namespace):
    yield "| gate | PASS | FAIL | INCONCLUSIVE | says | median pairs | ratio (10–90 %) | noise |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in GATES:
        gates = [trial["gates"][name] for trial in trials]
        verdicts = [gate["verdict"] for gate in gates]
        counts = [verdicts.count(kind) for kind in ("PASS", "FAIL", "INCONCLUSIVE")]
        yield (
            f"| {name} | {counts[0]} | {counts[1]} | {counts[2]} | {says(name, verdicts)} "
            f"| {statistics.median(gate['pairs'] for gate in gates):g} "
            f"| {spread([gate['ratio'] for gate in gates])} "
            f"| {statistics.median(gate['noise'] for gate in gates):.1%} a pair |"
        )
    calls = [trial["call_s"] for trial in trials]
    overheads = [trial["overhead_s"] for trial in trials]
    yield ""
    yield (
        f"{len(trials)} trials, {trials[0]['at']} to {trials[-1]['at']}; one call of A takes "
        f"{statistics.median(calls):.3f} s (10–90 %: {spread(calls)}); budget {arguments.budget:g} "
        f"s a gate; {arguments.threads} thread{'s' if arguments.threads > 1 else ''} a worker; "
        f"harness {1000 * statistics.median(overheads):.2g} ms a round of four calls; load of the "
        f"machine {spread([trial['load'] for trial in trials])}"
    )
    yield measured_on()


def says(name: str, verdicts: list[str]) -> str:
    if name in RIGHT:
        right = verdicts.count(RIGHT[name])
        least = binomial_lower_bound(right, len(verdicts))
        kept = "kept" if right >= AT_LEAST * len(verdicts) else "MISSED"
        return (
            f"{RIGHT[name]} in {right} of {len(verdicts)} (true share ≥ {least:.0%}); at least "
            f"{AT_LEAST:.0%} were asked for: {kept}"
        )
    wrong = [verdicts.count(kind) for kind in ("PASS", "FAIL")]
    bounds = [binomial_upper_bound(count, len(verdicts)) for count in wrong]
    return (
        f"wrong PASS {wrong[0]} (true share ≤ {bounds[0]:.0%}), wrong FAIL {wrong[1]} (≤ "
        f"{bounds[1]:.0%})"
    )


if __name__ == "__main__":
    main()

"""What differs between processes for good, and what it does to verdicts, on simulated clocks.

    python benchmarks/process_instances.py --gates 1000

Each pair of processes has a log ratio of its own beside that of the code, drawn once a gate, and
each pair of calls has noise.  The gate is the one that is used, as are its turns and its interval.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator

from pytest_diffspeed.statistics import binomial_upper_bound, min_ratio_for_slowdown
from pytest_diffspeed.statistics.processes import LEAST_PROCESSES
from pytest_diffspeed.timing.comparison import Comparison, Hypothesis
from pytest_diffspeed.timing.rounds import Pair
from pytest_diffspeed.timing.warm_up import WarmUp

ALLOWED = 5.0  # percent: max_slowdown(5)
SPREADS = (0.004, 0.01, 0.023)
NOISES = (0.01, 0.05)
PROCESSES = (1, 2, 3, 4, 6)
CODES = (("exactly 5 % slower", 5.0), ("the same", 0.0), ("10 % slower", 10.0))
PAIRS = 76
WARM = (WarmUp(1.0, 1.0, 2, 1.0), WarmUp(1.0, 1.0, 2, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gates", type=int, default=1000, help="simulated, for each figure")
    arguments = parser.parse_args()
    for line in report(arguments.gates):
        print(line, flush=True)


def report(gates: int) -> Iterator[str]:
    columns = ["between processes", "a pair", "instances"]
    columns += [f"code {name}: PASS, FAIL" for name, _ in CODES]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for spread in SPREADS:
        for noise in NOISES:
            for processes in PROCESSES:
                cells = [
                    cell(
                        verdicts(gates, spread, noise, processes, slower),
                        is_wrong=slower == ALLOWED,
                    )
                    for _, slower in CODES
                ]
                yield f"| {spread:.1%} | {noise:.0%} | {processes} | {' | '.join(cells)} |"
    yield ""
    yield (
        f"simulated: {gates} gates a cell, max_slowdown({ALLOWED:g}), at most {PAIRS} pairs; in "
        "brackets the one-sided exact 95 % bound of a rate of false verdicts; the interval over "
        f"processes is asked from {LEAST_PROCESSES} instances on"
    )


def cell(found: list[str], *, is_wrong: bool) -> str:
    def rate(verdict: str) -> str:
        count = found.count(verdict)
        bound = f" (≤ {binomial_upper_bound(count, len(found)):.1%})" if is_wrong else ""
        return f"{count / len(found):.1%}{bound}"

    return f"{rate('PASS')}, {rate('FAIL')}"


def verdicts(gates: int, spread: float, noise: float, processes: int, slower: float) -> list[str]:
    random_ = random.Random(f"{spread}/{noise}/{processes}/{slower}")
    return [one(random_, spread, noise, processes, slower) for _ in range(gates)]


def one(random_: random.Random, spread: float, noise: float, processes: int, slower: float) -> str:
    comparison = Comparison(Hypothesis(min_ratio_for_slowdown(ALLOWED)), processes)
    ratio = math.log(min_ratio_for_slowdown(slower))
    own = [ratio + random_.gauss(0, spread) for _ in range(processes)]
    for number in range(PAIRS):
        turn = number % processes
        if turn == 0 and comparison.is_settled:
            break
        seconds = math.exp(own[turn] + random_.gauss(0, noise))
        comparison.take(Pair(number, seconds, 1.0, candidate_first=False, instance=turn))
    projection = comparison.projection(WARM, 2.0, 2.0 * PAIRS, noise)
    return str(comparison.result(WARM, projection=projection, seed=0).verdict)


if __name__ == "__main__":
    main()

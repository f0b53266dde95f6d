"""What slow first calls do to a verdict: the measurement as it runs, on clocks that are scripted.

    python benchmarks/warm_up.py                # the tables of docs/measuring.md, about a minute

Both arms are equally fast once they are warm, so no gate here may FAIL in more than 5 %.  A call
takes 0.1 s, its noise is 2 % of that, and an arm's first calls take longer, falling off
exponentially.  Each gate may take up to 100 pairs.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pytest_diffspeed.records.verdict import VerdictKind
from pytest_diffspeed.statistics import binomial_upper_bound, min_ratio_for_slowdown
from pytest_diffspeed.timing.arm import Arm
from pytest_diffspeed.timing.comparison import Hypothesis, SpeedupResult
from pytest_diffspeed.timing.noise import measure_noise
from pytest_diffspeed.timing.speedup import SpeedupMeasurement

CALL_S = 0.1
NOISE = 0.02
BUDGET_S = 100 * 2 * CALL_S


@dataclass
class Machine:
    """A clock whose calls take ``CALL_S``, times noise, times what ``start`` makes of the call's
    number in its arm; its own time stands still between calls.
    """

    seed: int
    start: dict[str, Callable[[int], float]]
    elapsed_s: float = 0.0
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def time(self, call: Callable[[], str]) -> tuple[float, str]:
        name = call()
        seconds = CALL_S * self.start[name](self.calls[name])
        seconds *= math.exp(self._random.gauss(0.0, NOISE))
        self.calls[name] += 1
        self.elapsed_s += seconds
        return seconds, name


def falling(share: float, calls: float) -> Callable[[int], float]:
    """First calls that take ``share`` longer; a third of that is left after ``calls`` of them."""
    return lambda number: 1 + share * math.exp(-number / calls)


def plateau(share: float, calls: int) -> Callable[[int], float]:
    """The first ``calls`` calls take ``share`` longer, all alike, and the others do not."""
    return lambda number: 1 + share * (number < calls)


def level(_: int) -> float:
    return 1.0


@dataclass(frozen=True)
class Case:
    """Two arms with slow first calls, and the threshold they are held against."""

    name: str
    baseline: Callable[[int], float]
    candidate: Callable[[int], float]
    gate: str
    min_ratio: float

    def measure(self, seed: int, *, floor: bool) -> SpeedupResult:
        """One gate; ``floor``: after the noise floor was measured, as in a first session."""
        machine = Machine(seed, {"base": self.baseline, "fast": self.candidate})
        base, fast = Arm("base", lambda: "base"), Arm("fast", lambda: "fast")
        if floor:
            measure_noise(base, machine, beside=[fast], seed=seed, now=lambda: machine.elapsed_s)
        (result,) = SpeedupMeasurement(
            [(base, fast)],
            [Hypothesis(self.min_ratio)],
            budget_s=BUDGET_S,
            clock=machine,
            seed=seed,
            now=lambda: machine.elapsed_s,
        ).run()
        return result

    def verdicts(self, gates: int, *, floor: bool) -> Counter[VerdictKind]:
        return Counter(self.measure(seed, floor=floor).verdict for seed in range(gates))


def alike(share: float, calls: float, gate: str, min_ratio: float) -> Case:
    name = f"both arms' first calls +{share:.0%}, falling over {calls:g}"
    return Case(name, falling(share, calls), falling(share, calls), gate, min_ratio)


def late(share: float, calls: float, gate: str, min_ratio: float) -> Case:
    name = f"candidate's first calls +{share:.0%}, falling over {calls:g}; baseline warm"
    return Case(name, level, falling(share, calls), gate, min_ratio)


SLOWDOWN_5 = ("max_slowdown(5)", min_ratio_for_slowdown(5))
SLOWDOWN_2 = ("max_slowdown(2)", min_ratio_for_slowdown(2))
ALIKE = (
    alike(0.30, 10, *SLOWDOWN_5),
    alike(0.15, 10, *SLOWDOWN_5),
    alike(0.15, 10, *SLOWDOWN_2),
    alike(0.30, 4, *SLOWDOWN_2),
    alike(0.05, 30, "min_speedup(1.0)", 1.0),
)
"""Each was a FAIL in 37 to 100 % of the gates while the noise floor called the baseline alone."""

LATE = (
    late(0.30, 10, *SLOWDOWN_5),
    late(0.15, 10, *SLOWDOWN_5),
    late(0.15, 10, *SLOWDOWN_2),
    late(0.30, 4, *SLOWDOWN_2),
)
"""As in the second test of a session: the baseline has been called before."""

PLATEAU = Case(
    "candidate's first 12 calls +15 %, all alike; baseline warm",
    level,
    plateau(0.15, 12),
    *SLOWDOWN_5,
)
"""Outside: until it ends, nothing tells it from an arm that is slower."""


def cells(case: Case, gates: int, *, floor: bool) -> str:
    counts = case.verdicts(gates, floor=floor)
    failed = counts[VerdictKind.FAIL]
    bound = binomial_upper_bound(failed, gates)
    return f"{counts[VerdictKind.PASS] / gates:.0%}, {failed / gates:.1%} (≤ {bound:.1%})"


def report(gates: int) -> Iterator[str]:
    yield (
        f"| first calls ({gates} gates each) | gate | floor measured now: PASS, false FAIL "
        "| floor known: PASS, false FAIL |"
    )
    yield "|---|---|---|---|"
    for case in (*ALIKE, *LATE, PLATEAU):
        row = [cells(case, gates, floor=floor) for floor in (True, False)]
        yield f"| {case.name} | {case.gate} | {' | '.join(row)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gates", type=int, default=400, help="gates a cell")
    for line in report(parser.parse_args().gates):
        print(line, flush=True)


if __name__ == "__main__":
    main()

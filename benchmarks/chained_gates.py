"""Do the intervals of a speed index hold, and what does a gate's luck do to it?

    python benchmarks/chained_gates.py --gates 1500

Gates of ``max_slowdown`` (5 %, alpha 0.05, at most 60 pairs) on simulated pairs with Gaussian
noise; then chains of such gates, drawn from them, as ``diffspeed history index`` chains them: with
the median of each gate, and with its median without the luck of stopping.
"""

from __future__ import annotations

import argparse
import math
from functools import reduce

import numpy as np

from pytest_diffspeed.statistics.chain import SAME, LogRatio
from pytest_diffspeed.statistics.gate import SpeedupGate
from pytest_diffspeed.statistics.unstopped import unstopped_median

CHAINS = 1000
LINKS = (10, 50, 200)


def simulated(
    shuffle: np.random.Generator, true: float, noise: float
) -> tuple[LogRatio, LogRatio, int]:
    """The error of one gate with its interval: by its median and without its luck; its pairs."""
    gate = SpeedupGate.for_max_slowdown(5, max_pairs=60)
    threshold = math.log(gate.min_ratio)
    xs: list[float] = []
    while gate.decision is None:
        xs.append(float(shuffle.normal(true, noise)))
        gate.update(math.exp(xs[-1]), 1.0)
    found = gate.estimate()
    without = unstopped_median([x - threshold for x in xs], gate.alpha, gate.beta)
    assert without is not None, "unreachable because the gate took enough pairs for a verdict"
    ratios = (found.ratio, math.exp(without + threshold))
    plain, free = (
        LogRatio.of(ratio / math.exp(true), found.low / math.exp(true), found.high / math.exp(true))
        for ratio in ratios
    )
    return plain, free, len(xs)


def covered(shuffle: np.random.Generator, errors: list[LogRatio], links: int) -> float:
    """The share of chains whose interval holds the truth, which is 0 in errors."""
    held = 0
    for _ in range(CHAINS):
        drawn = shuffle.integers(len(errors), size=links)
        end = reduce(LogRatio.then, (errors[place] for place in drawn), SAME)
        held += -end.up <= end.value <= end.down
    return held / CHAINS


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--gates", type=int, default=1500, help="of each kind (default: 1500)")
    options = parser.parse_args()
    shuffle = np.random.default_rng(1)
    print(f"{options.gates} gates each, {CHAINS} chains of them")
    chains = ", ".join(map(str, LINKS))
    print(f"{'noise':>5} {'true':>6} {'pairs':>5}   mean error   intervals of {chains} links hold")
    for noise in (0.02, 0.05, 0.1):
        for ratio in (1.0, 0.97, 0.9):
            gates = [simulated(shuffle, math.log(ratio), noise) for _ in range(options.gates)]
            pairs = np.mean([many for *_, many in gates])
            for name, place in (("median", 0), ("without luck", 1)):
                errors = [gate[place] for gate in gates]
                mean = np.mean([error.value for error in errors])
                shares = "  ".join(f"{covered(shuffle, errors, links):6.1%}" for links in LINKS)
                print(f"{noise:5.0%} {ratio:6.2f} {pairs:5.0f}   {mean:+8.2%}   {shares}   {name}")


if __name__ == "__main__":
    main()

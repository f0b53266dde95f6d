"""How often are jumps and drift found, at the right commits, and where nothing is?

    python benchmarks/change_points.py --series 1000

Simulated series of 120 commits; sizes are in standard deviations of Gaussian noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pytest_diffspeed.statistics.changes import find_jumps
from pytest_diffspeed.statistics.drift import find_drift

COUNT = 120
PLACE = 70
Values = NDArray[np.float64]
Noise = Callable[[np.random.Generator], Values]


def correlated(shuffle: np.random.Generator) -> Values:
    steps = shuffle.normal(size=COUNT + 50)
    for index in range(1, len(steps)):
        steps[index] += 0.3 * steps[index - 1]
    return steps[50:]


def spikes(shuffle: np.random.Generator) -> Values:
    hit = shuffle.random(COUNT) < 0.07
    return shuffle.normal(size=COUNT) - hit * shuffle.exponential(15, COUNT)


NOISES: dict[str, Noise] = {
    "Gaussian": lambda shuffle: shuffle.normal(size=COUNT),
    "Student's t, 2 degrees": lambda shuffle: shuffle.standard_t(2, size=COUNT),
    "spikes in 7 %": spikes,
    "log-normal": lambda shuffle: shuffle.lognormal(size=COUNT),
    "two levels": lambda s: s.normal(size=COUNT) + 4 * (s.random(COUNT) < 0.3),
    "neighbours correlated 0.3": correlated,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--series", type=int, default=1000, help="of each kind (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    options = parser.parse_args()
    shuffle = np.random.default_rng(options.seed)
    runs = range(options.series)

    def share(hits: float) -> str:
        return f"{100 * hits / options.series:6.1f} %"

    print(f"{options.series} series of {COUNT} commits each")
    print("flat                        with a jump  with drift")
    for name, noise in NOISES.items():
        jumped = drifted = 0
        for _ in runs:
            values = noise(shuffle)
            jumps = find_jumps(values.tolist())
            drift = find_drift(values.tolist(), [jump.index for jump in jumps])
            jumped += bool(jumps)
            drifted += drift is not None and drift.is_shown
        print(f"  {name:<26}{share(jumped)}    {share(drifted)}")
    print(f"a jump at commit {PLACE}          found  at that commit  range holds it  another too")
    for name in ("Gaussian", "Student's t, 2 degrees"):
        for size in (1, 2, 3, 5, 8):
            found = exact = held = more = 0
            for _ in runs:
                values = NOISES[name](shuffle)
                values[PLACE:] -= size
                jumps = find_jumps(values.tolist())
                found += bool(jumps)
                exact += any(jump.index == PLACE for jump in jumps)
                held += any(jump.first <= PLACE <= jump.last for jump in jumps)
                more += len(jumps) > 1
            cells = f"{share(found)}     {share(exact)}       {share(held)}      {share(more)}"
            print(f"  {size} sd, {name:<23}{cells}")
    print("drift, from end to end      shown as drift  called a jump")
    for size in (1, 2, 4, 8):
        drifted = jumped = 0
        for _ in runs:
            values = NOISES["Gaussian"](shuffle) - size * np.linspace(0, 1, COUNT)
            jumps = find_jumps(values.tolist())
            drift = find_drift(values.tolist(), [jump.index for jump in jumps])
            drifted += drift is not None and drift.is_shown
            jumped += bool(jumps)
        print(f"  {size} sd{'':<22}{share(drifted)}        {share(jumped)}")


if __name__ == "__main__":
    main()

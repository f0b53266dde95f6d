"""How often are jumps and drift found, at the right commits, and where nothing is?

    python benchmarks/change_points.py --series 1000

Simulated series of 120 commits; sizes are in standard deviations of Gaussian noise.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pytest_diffspeed.statistics.changes import find_jumps
from pytest_diffspeed.statistics.drift import find_drift

COUNT = 120
PLACE = 70
Values = NDArray[np.float64]
Noise = Callable[[np.random.Generator], Values]


def correlated(of: float) -> Noise:
    def noise(shuffle: np.random.Generator) -> Values:
        steps = shuffle.normal(size=COUNT + 50)
        for index in range(1, len(steps)):
            steps[index] += of * steps[index - 1]
        return steps[50:] * math.sqrt(1 - of * of)

    return noise


def season(shuffle: np.random.Generator) -> Values:
    """As large as the noise, and back after 30 commits."""
    at = np.arange(COUNT) + 30 * shuffle.random()
    return shuffle.normal(size=COUNT) + np.sin(2 * np.pi * at / 30)


def spikes(shuffle: np.random.Generator) -> Values:
    hit = shuffle.random(COUNT) < 0.07
    return shuffle.normal(size=COUNT) - hit * shuffle.exponential(15, COUNT)


NOISES: dict[str, Noise] = {
    "Gaussian": lambda shuffle: shuffle.normal(size=COUNT),
    "Student's t, 2 degrees": lambda shuffle: shuffle.standard_t(2, size=COUNT),
    "spikes in 7 %": spikes,
    "log-normal": lambda shuffle: shuffle.lognormal(size=COUNT),
    "two levels": lambda s: s.normal(size=COUNT) + 4 * (s.random(COUNT) < 0.3),
    "neighbours correlated 0.3": correlated(0.3),
    "neighbours correlated 0.6": correlated(0.6),
    "a season of 30, 1 sd": season,
}


def delay(values: Values) -> float:
    """Commits from the jump at ``PLACE`` until it is first found, within 5 commits of it."""
    for seen in range(1, COUNT - PLACE + 1):
        jumps = find_jumps(values[: PLACE + seen].tolist())
        if any(abs(jump.index - PLACE) <= 5 for jump in jumps):
            return seen
    return math.inf


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
    print("noise of 1.5 %, a jump at 70  found within 5  all that is found is it  after (median)")
    for name in ("Gaussian", "neighbours correlated 0.3", "Student's t, 2 degrees"):
        for size in (-0.02, -0.05, -0.10):
            found = total = 0
            delays = []
            for _ in runs:
                values = 1 + 0.015 * NOISES[name](shuffle)
                values[PLACE:] += size
                at = [jump.index for jump in find_jumps(values.tolist())]
                found += any(abs(place - PLACE) <= 5 for place in at)
                total += len(at)
                if len(delays) < options.series / 25:
                    delays.append(delay(values))
            precision = f"{100 * found / max(1, total):6.1f} %"
            after = statistics.median(delays)
            told = "never, in most" if math.isinf(after) else f"{after:.0f} commits"
            print(f"  {size:+.0%}, {name:<26}{share(found)}           {precision}           {told}")
    print("-10 % and fixed, noise 1.5 %  both commits found within 2")
    for commits in (3, 4, 5, 6, 8):
        found = 0
        for _ in runs:
            values = 1 + 0.015 * NOISES["Gaussian"](shuffle)
            values[60 : 60 + commits] -= 0.10
            at = [jump.index for jump in find_jumps(values.tolist())]
            found += all(any(abs(place - end) <= 2 for place in at) for end in (60, 60 + commits))
        print(f"  after {commits} commits{'':<14}{share(found)}")
    print("a cliff at the fifth of eight commits, noise 1.5 %, intervals of 3 %: found within 1")
    for size in (0.0, -0.05, -0.10, -0.15, -0.20):
        found = 0
        for _ in runs:
            values = 1 + 0.015 * shuffle.normal(size=8)
            values[4:] += size
            ends = (0.97 * values).tolist(), (1.03 * values).tolist()
            jumps = find_jumps(values.tolist(), lows=ends[0], highs=ends[1])
            found += any(abs(jump.index - 4) <= 1 for jump in jumps)
        print(f"  {size:+.0%}{'':<25}{share(found)}")
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

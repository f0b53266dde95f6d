"""What does the plugin cost a pytest run that does not use it?

    python benchmarks/startup.py --pairs 40

Whole pytest processes on a file with one empty test, with the plugin and with ``-p no:diffspeed``,
are timed next to each other as pairs.  As many pairs as have the plugin first have it second, in
shuffled order, so that drift and caches favour neither side.  pytest-benchmark is a plugin too, and
installing ours installs it, so what it costs is shown in pairs of its own.  Control pairs, the same
command twice, show what the method itself makes of the noise of this machine.  Seconds of the wall
clock and of the processor are taken of the same runs: the second ones are far less noisy.

Plugins that installing ours does not bring (those of the development tools) are off in all runs:
Python collects garbage in full whenever the objects have grown by a quarter, and what other plugins
allocate decides whether ours are the ones that tip it.  ``--all-plugins`` leaves them on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "pytest-diffspeed"
WITH: tuple[str, ...] = ()
WITHOUT = ("-p", "no:diffspeed")
NEITHER = ("-p", "no:diffspeed", "-p", "no:benchmark")
CLOCKS = ("wall clock", "processor")
KINDS = 3
"""Pairs with ours and without it, with pytest-benchmark and without it, and control pairs."""

Run = Callable[[Sequence[str]], tuple[float, float]]
"""Runs pytest; seconds of the wall clock, and of the processor."""


@dataclass(frozen=True)
class Series:
    """Pairs of seconds: what a command took and what the other one beside it took."""

    name: str
    pairs: list[tuple[float, float]]

    def lines(self) -> list[str]:
        first, second = zip(*self.pairs, strict=True)
        differences_ms = [1e3 * (a - b) for a, b in self.pairs]
        low_ms, high_ms = spread(differences_ms)
        ratio_low, ratio_high = spread([a / b for a, b in self.pairs])
        ratio = statistics.median(first) / statistics.median(second)
        return [
            f"{self.name}, {len(self.pairs)} pairs",
            f"  medians      {1e3 * statistics.median(first):.0f} ms against"
            f" {1e3 * statistics.median(second):.0f} ms",
            f"  ratio        {ratio:.3f} of the medians"
            f" (10-90 % of the pairs: {ratio_low:.3f} to {ratio_high:.3f})",
            f"  difference   {statistics.median(differences_ms):+.1f} ms in the median pair"
            f" (10-90 %: {low_ms:+.1f} to {high_ms:+.1f} ms)",
            "  95 % interval of that median  {:+.1f} to {:+.1f} ms".format(
                *interval_of_median(differences_ms)
            ),
        ]


def spread(values: Sequence[float]) -> tuple[float, float]:
    """The 10 % and 90 % quantiles, by linear interpolation."""
    deciles = statistics.quantiles(values, n=10, method="inclusive")
    return deciles[0], deciles[-1]


def interval_of_median(values: Sequence[float]) -> tuple[float, float]:
    """95 % for the median of what ``values`` are drawn from, by ranks: no shape is supposed.

    The two ranks are those that a fair coin leaves 2.5 % beyond, as closely as whole ranks can.
    """
    count, ordered = len(values), sorted(values)
    rank, beyond = 0, 0.5**count
    while rank + 1 < count // 2 and beyond + math.comb(count, rank + 1) * 0.5**count <= 0.025:
        rank += 1
        beyond += math.comb(count, rank) * 0.5**count
    return ordered[rank], ordered[count - 1 - rank]


def pytest_command(*words: str) -> list[str]:
    return [sys.executable, "-m", "pytest", *words]


def check_arms(folder: Path, environment: dict[str, str]) -> None:
    """Both arms must be what they claim: the option exists with the plugin and not without."""
    for words, expected in ((WITH, True), (WITHOUT, False)):
        done = subprocess.run(
            pytest_command(*words, "--help"),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        if ("--diffspeed" in done.stdout) is not expected:
            wanted = "was not loaded" if expected else "was loaded"
            raise SystemExit(
                f"the plugin {wanted} by `pytest {' '.join(words)}`: is pytest-diffspeed installed "
                "in this environment?"
            )


def timed(folder: Path, environment: dict[str, str], off: Sequence[str]) -> Run:
    without = [word for name in off for word in ("-p", f"no:{name}")]

    def run(words: Sequence[str]) -> tuple[float, float]:
        command = pytest_command("-q", "-p", "no:cacheprovider", *without, *words, "test_empty.py")
        used_s, start_s = processor_of_children_s(), time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start_s, processor_of_children_s() - used_s

    return run


def processor_of_children_s() -> float:
    """Seconds that all processes took that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def balanced(count: int, shuffle: random.Random) -> list[bool]:
    """``count`` coin flips of which half are true (of an odd count, one more is)."""
    flips = [index % 2 == 0 for index in range(count)]
    shuffle.shuffle(flips)
    return flips


def measure(run: Run, pairs: int, shuffle: random.Random, tick: Callable[[], None]) -> list[Series]:
    """Time ``pairs`` pairs of each kind, the kinds mixed."""
    kinds = (
        ("With the plugin against without", WITH, WITHOUT),
        ("With pytest-benchmark, which it installs, against without", WITHOUT, NEITHER),
        ("Control: without against without", WITHOUT, WITHOUT),
    )
    series = [[Series(f"{name}, {clock}", []) for clock in CLOCKS] for name, _, _ in kinds]
    schedule = [
        (found, one, other, flip)
        for found, (_, one, other) in zip(series, kinds, strict=True)
        for flip in balanced(pairs, shuffle)
    ]
    shuffle.shuffle(schedule)
    for found, one, other, one_first in schedule:
        if one_first:
            one_s = run(one)
            other_s = run(other)
        else:
            other_s = run(other)
            one_s = run(one)
        for by_clock, pair in zip(found, zip(one_s, other_s, strict=True), strict=True):
            by_clock.pairs.append(pair)
        tick()
    return [by_clock for found in series for by_clock in found]


def processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def brought_by_ours() -> set[str]:
    """The distributions that installing ours without an extra installs, by canonical name."""
    found: set[str] = set()
    left = [OURS]
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another system or Python
            continue
        for requirement in map(Requirement, needed):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return found


def other_plugins() -> dict[str, str]:
    """The distribution of each other plugin of pytest that is installed, by the plugin's name."""
    return {
        entry.name: canonicalize_name(distribution.metadata["Name"])
        for distribution in importlib.metadata.distributions()
        for entry in distribution.entry_points
        if entry.group == "pytest11" and distribution.metadata["Name"] != OURS
    }


def measured_on(off: Sequence[str]) -> list[str]:
    others = other_plugins()
    on = sorted({name for plugin, name in others.items() if plugin not in off})
    version = importlib.metadata.version
    lines = [
        f"pytest-diffspeed {version('pytest-diffspeed')}, pytest {version('pytest')}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        f"{processor()}, {os.cpu_count()} logical cores",
        f"other pytest plugins: {', '.join(on) or 'none'}"
        + (f"; switched off: {', '.join(sorted({others[name] for name in off}))}" if off else ""),
    ]
    if hasattr(os, "getloadavg"):
        lines.append(f"load average of the last minute at the end: {os.getloadavg()[0]:.1f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=40, help="pairs of each kind (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled order (default: 0)")
    parser.add_argument(
        "--all-plugins", action="store_true", help="also those that installing ours does not bring"
    )
    options = parser.parse_args()
    if options.pairs < 6:
        parser.error("--pairs must be at least 6: fewer have no interval of 95 %")

    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        # Nobody compiles all modules in each run; some containers set it, and our folder is new.
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    brought = brought_by_ours()
    off = [name for name, one in other_plugins().items() if one not in brought]
    if options.all_plugins:
        off = []
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if sys.stderr.isatty():
            end = "\n" if done == KINDS * options.pairs else ""
            print(f"\r{done}/{KINDS * options.pairs} pairs", end=end, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")  # no configuration from folders above
        (folder / "test_empty.py").write_text("def test_empty():\n    pass\n")
        check_arms(folder, environment)
        run = timed(folder, environment, off)
        for words in (WITH, WITHOUT, NEITHER):  # warms the file cache and writes the .pyc files
            run(words)
        series = measure(run, options.pairs, random.Random(options.seed), tick)

    print("Start-up: `pytest -q` on one empty test, whole process")
    for entry in series:
        print("\n".join(entry.lines()))
    print("Measured on")
    print("\n".join(f"  {line}" for line in measured_on(off)))


if __name__ == "__main__":
    main()

"""Run the techniques and gates over the small pipelines of diffusers, each in a process of its own.

    python tools/zoo                               all pipelines that were not run yet
    python tools/zoo --plant                       a fault in each component that runs in the steps
    python tools/zoo --only FluxPipeline 'Wan*'    some of them
    python tools/zoo --commit-table                and what was found into docs/pipelines.md
    python tools/zoo --table                       that alone, of what is there

What was found goes into `build/zoo/`, a line as each pipeline ends; a run that was cut short goes
on where it stopped.  Exits with 1 where something crashed or was wrong.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import platform
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from children import Pieces

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
KEPT = ROOT / "build" / "zoo"
LIMIT_S = 600.0
"""Longer than any pipeline needs; a hang is a finding, not the end of the run."""


def main(words: Sequence[str]) -> int:
    options = parsed(words)
    from zoo_table import failures, write_table

    kept = KEPT / ("planted.jsonl" if options.plant else "checked.jsonl")
    try:
        if not options.table:
            wanted = chosen_checks(options.checks, plant=options.plant)
            names = chosen(options.only)
            if not options.fresh:
                found = read(kept)
                names = [name for name in names if not done(found.get(name), wanted)]
            run(names, kept, wanted, plant=options.plant, jobs=options.jobs, limit_s=options.limit)
    finally:  # of a run that is cut short, too
        if options.table or options.commit_table:
            checked, planted = read(KEPT / "checked.jsonl"), read(KEPT / "planted.jsonl")
            write_table(checked, ROOT / "docs" / "pipelines.md", planted)
    bad = failures(read(kept).values())
    print("\n".join(bad) or "nothing crashed and nothing was wrong")
    return 1 if bad else 0


def parsed(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tools/zoo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="pipelines or patterns; all by default")
    add("--plant", action="store_true", help="planted faults instead of checks")
    add("--checks", help="some checks, comma-separated; all by default")
    add("--fresh", action="store_true", help="run again what was run before")
    add("--jobs", type=int, default=1, help="processes at a time")
    add("--limit", type=float, default=LIMIT_S, help="seconds for one pipeline")
    add("--commit-table", action="store_true", help="write docs/pipelines.md after the run")
    add("--table", action="store_true", help="write docs/pipelines.md and run nothing")
    options = parser.parse_args(words)
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {options.jobs}")
    if options.plant and options.checks:
        parser.error("--plant plants all faults: leave out --checks, or --plant")
    return options


def chosen(patterns: Sequence[str] | None) -> list[str]:
    """Names that match, in an order of no meaning: what a run that is cut short has seen is of all
    kinds.
    """
    from pytest_diffspeed.common.errors import UsageError
    from pytest_diffspeed.pipelines import zoo

    for pattern in patterns or ():
        if not fnmatch.filter(zoo.names(), pattern):
            try:
                zoo.check_name(pattern)
            except UsageError as error:
                raise SystemExit(f"--only: {error}") from None
    names = [n for n in zoo.names() if any(fnmatch.fnmatch(n, p) for p in patterns or ["*"])]
    return sorted(names, key=lambda name: zlib.crc32(name.encode()))


def chosen_checks(text: str | None, *, plant: bool = False) -> tuple[str, ...]:
    """Of the checks that can be chosen; planted faults have none."""
    from zoo_checks import CHECKS

    if plant:
        return ()
    words = CHECKS if text is None else tuple(text.split(","))
    unknown = sorted(set(words) - set(CHECKS))
    if unknown:
        raise SystemExit(f"--checks: there is no {', '.join(unknown)}; valid: {', '.join(CHECKS)}")
    return words


def done(found: dict[str, Any] | None, wanted: Iterable[str]) -> bool:
    """Whether a run went that far: what could not be built has nothing else to try."""
    if found is None:
        return False
    outcomes = found["outcomes"]
    cut_short = bool(found.get("ended"))  # it would hang again
    return cut_short or "observed" not in outcomes or set(wanted) <= set(outcomes)


def read(kept: Path) -> dict[str, dict[str, Any]]:
    """What was found of each pipeline: of each check, the last outcome."""
    found: dict[str, dict[str, Any]] = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else ():
        one = json.loads(line)
        before = found.get(one["pipeline"], {"outcomes": {}})
        found[one["pipeline"]] = {
            **before,
            **one,
            "outcomes": {**before["outcomes"], **one["outcomes"]},
        }
    return found


def run(
    names: Sequence[str],
    kept: Path,
    wanted: Sequence[str],
    *,
    plant: bool,
    jobs: int,
    limit_s: float,
) -> None:
    """Run ``names`` and write down what each gave."""
    from children import run_all

    kept.parent.mkdir(parents=True, exist_ok=True)
    if not names:
        return
    about = {"commit": commit(), **versions()}
    check = imported(plant, wanted)
    total = 0.0
    tasks = [(name, partial(check, name)) for name in names]
    ended = enumerate(run_all(tasks, jobs=jobs, limit_s=limit_s), 1)
    for number, (name, found, seconds) in ended:
        line = {"pipeline": name, **found, "seconds": round(seconds, 1), **about}
        with kept.open("a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        total += seconds
        words = " ".join(f"{k}={v['verdict']}" for k, v in found["outcomes"].items())
        left = (len(names) - number) * total / number / jobs / 60
        print(
            f"[{number}/{len(names)}, {left:.0f} min left] {name} {seconds:.1f} s: {words}",
            flush=True,
        )
    print(f"{total / len(names):.1f} s a pipeline on average, in {len(names)}")


def imported(plant: bool, wanted: Sequence[str]) -> Callable[[str], Pieces]:
    """Everything that a check needs, imported once, before the first fork."""
    from pytest_diffspeed.common.quiet import third_party

    with third_party():
        import diffusers.models.autoencoders
        import torch
        import transformers
        import zoo_checks

        import pytest_diffspeed.arms.builder
        import pytest_diffspeed.compilation.probe
        import pytest_diffspeed.gates.registry
        import pytest_diffspeed.pipelines.capture

        torch.set_num_threads(1)
        # What a check finds is said by its outcome.
        warnings.simplefilter("ignore")
        del diffusers, transformers, pytest_diffspeed
        if plant:
            import plants

            return plants.planted
    return partial(zoo_checks.checked, wanted=wanted)


def commit() -> str:
    words = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def versions() -> dict[str, str]:
    known = {
        name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")
    }
    return {**known, "python": platform.python_version()}

"""Run the techniques and gates over the small pipelines of diffusers, each in a process of its own.

    python tools/zoo                          all pipelines, and docs/pipelines.md anew
    python tools/zoo FluxPipeline 'Wan*'      some of them: they are run again
    python tools/zoo --plant                  a fault in each component that runs in the steps
    python tools/zoo --table                  the table alone, of what is there

What was found goes into `build/zoo/`, a line as each pipeline ends; a run that was cut short goes
on where it stopped.  Exits with 1 where something crashed or was wrong.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
LIMIT_S = 240.0
"""Longer than any pipeline needs; a hang is a finding, not the end of the run."""


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python tools/zoo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("pipelines", nargs="*", help="names or patterns; all by default")
    parser.add_argument("--plant", action="store_true", help="planted faults instead of checks")
    parser.add_argument("--table", action="store_true", help="write the table, run nothing")
    parser.add_argument("--checks", help="some checks, comma-separated; all by default")
    parser.add_argument("--fresh", action="store_true", help="run again what was run before")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for one pipeline")
    options = parser.parse_args(words)
    from zoo_table import failures, write_table

    kept = ROOT / "build" / "zoo" / ("planted.jsonl" if options.plant else "checked.jsonl")
    if not options.table:
        names = chosen(options.pipelines)
        wanted = chosen_checks(options.checks)
        if not (options.fresh or options.pipelines):
            names = [name for name in names if not done(read(kept).get(name), wanted)]
        run(names, kept, wanted, plant=options.plant, limit_s=options.limit)
    found = read(kept)
    if not options.plant:
        write_table(found, ROOT / "docs" / "pipelines.md")
    bad = failures(found.values())
    print("\n".join(bad) or "nothing crashed and nothing was wrong")
    return 1 if bad else 0


def chosen(patterns: Sequence[str]) -> list[str]:
    from pytest_diffspeed.pipelines import zoo

    if not patterns:
        return list(zoo.names())
    for pattern in patterns:
        if not fnmatch.filter(zoo.names(), pattern):
            zoo.check_name(pattern)
    return [n for n in zoo.names() if any(fnmatch.fnmatch(n, p) for p in patterns)]


def chosen_checks(text: str | None) -> list[str] | None:
    if text is None:
        return None
    from zoo_checks import CHECKS

    words = text.split(",")
    unknown = sorted(set(words) - set(CHECKS))
    if unknown:
        raise SystemExit(f"--checks: there is no {', '.join(unknown)}; valid: {', '.join(CHECKS)}")
    return words


def done(found: dict[str, Any] | None, wanted: Sequence[str] | None) -> bool:
    """Whether a run went that far: what could not be built has nothing else to try."""
    if found is None:
        return False
    return (
        wanted is None
        or "observed" not in found["outcomes"]
        or set(wanted) <= set(found["outcomes"])
    )


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
    wanted: Sequence[str] | None,
    *,
    plant: bool,
    limit_s: float,
) -> None:
    """Run ``names`` one after the other; each is a fork, since importing torch takes seconds."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    if not names:
        return
    about = {"commit": commit(), **versions()}
    check = imported(plant, wanted)
    # Not by the alphabet: what a run that was cut short has seen is of all kinds.
    for number, name in enumerate(sorted(names, key=lambda n: zlib.crc32(n.encode())), 1):
        started = time.monotonic()
        found = in_child(partial(check, name), limit_s)
        if "outcomes" not in found:
            found = {"pipeline": name, "outcomes": {"process": found}}
        seconds = round(time.monotonic() - started, 1)
        with kept.open("a", encoding="utf-8") as out:
            out.write(json.dumps({**found, "seconds": seconds, **about}) + "\n")
        words = " ".join(f"{k}={v['verdict']}" for k, v in found["outcomes"].items())
        print(f"[{number}/{len(names)}] {name} {seconds} s: {words}", flush=True)


def imported(plant: bool, wanted: Sequence[str] | None) -> Callable[[str], dict[str, Any]]:
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
    return zoo_checks.checked if wanted is None else partial(zoo_checks.checked, wanted=wanted)


def in_child(work: Callable[[], dict[str, Any]], limit_s: float) -> dict[str, Any]:
    """What ``work`` gives in a forked process, or the outcome of one that crashed or hung."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(receive)
            with os.fdopen(send, "w", encoding="utf-8") as out:
                json.dump(work(), out)
            code = 0
        finally:
            os._exit(code)
    os.close(send)
    ends = time.monotonic() + limit_s
    text = b""
    os.set_blocking(receive, False)
    while True:
        try:
            piece = os.read(receive, 1 << 16)
            text += piece
            if not piece:
                break
        except BlockingIOError:
            if time.monotonic() > ends:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                os.close(receive)
                return {"verdict": "crash", "found": f"not done after {limit_s:.0f} s"}
            time.sleep(0.05)
    os.close(receive)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        return {"verdict": "crash", "found": f"the process ended with {status}"}
    result: dict[str, Any] = json.loads(text)
    return result


def commit() -> str:
    words = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def versions() -> dict[str, str]:
    known = {
        name: importlib.metadata.version(name) for name in ("torch", "diffusers", "transformers")
    }
    return {**known, "python": platform.python_version()}

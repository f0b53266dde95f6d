"""Where a diffspeed session's wall time goes: calls and compilation, or the harness?

    python benchmarks/wall_share.py --runs 3

Runs two gates on a ratio (one compiled stack, one eager) on the demo pipeline as a user would, each
time in a fresh process with an empty compile cache, and watches every pipeline call in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITE = """
import pytest

@pytest.mark.diffspeed("channels_last", "compile")
@pytest.mark.max_slowdown(25)
@pytest.mark.min_speedup(1.05, stack="compile")
def test_speed(optimized_pipeline): ...
"""
PROBE = '''
"""Adds up the seconds of pipeline calls, by what they are made for, and of imports."""
import atexit, json, os, time

spent = {"timed": 0.0, "first": 0.0, "other": 0.0, "overheads": []}


def pytest_collection_finish(session):
    import pytest_diffspeed.gates.ratios.result as speedup_result
    from pytest_diffspeed.pipelines.call import PipelineCall
    from pytest_diffspeed.timing.arm import Arm

    import pytest_diffspeed.arms.builder as building

    state = {"timed": False, "applying": False}
    apply = building.apply_stack
    one_call, call, result = Arm._one_call, PipelineCall.__call__, speedup_result.gate_result

    def watched_one_call(self):
        state["timed"] = True
        return one_call(self)

    def watched(self, pipeline, **words):
        whole = "steps" not in words or words["steps"] is None
        kind = "timed" if state["timed"] else "other"
        if kind == "other" and whole and state["applying"]:
            kind = "first"  # contains compilation
        began = time.perf_counter()
        try:
            return call(self, pipeline, **words)
        finally:
            spent[kind] += time.perf_counter() - began
            state["timed"] = False

    def watched_apply(*words, **more):
        state["applying"] = True
        try:
            return apply(*words, **more)
        finally:
            state["applying"] = False

    building.apply_stack = watched_apply

    def watched_result(marker, context, over, measured, **words):
        spent["overheads"].append(measured.round_overhead_s)
        return result(marker, context, over, measured, **words)

    import pytest_diffspeed.gates.ratios.gate_group as speedup

    Arm._one_call, PipelineCall.__call__ = watched_one_call, watched
    speedup.gate_result = watched_result
    spent["collected"] = time.time()


def pytest_unconfigure(config):
    with open(os.environ["WALL_SHARE_OUT"], "w") as file:
        json.dump(spent, file)
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("words", nargs="*", default=["test_speed.py"], help="words for pytest")
    arguments = parser.parse_args()
    runs = [run(arguments.words) for _ in range(arguments.runs)]
    print(
        "| run | wall | start-up | timed calls | first calls, with compilation | other calls "
        "(proofs) | harness | calls' share of the time after start-up | harness a round |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    shares = []
    for number, found in enumerate(runs, start=1):
        after = found["wall"] - found["start"]
        calls = found["timed"] + found["first"] + found["other"]
        shares.append((found["timed"] + found["first"]) / after)
        print(
            f"| {number} | {found['wall']:.1f} s | {found['start']:.1f} s | {found['timed']:.1f} s "
            f"| {found['first']:.1f} s | {found['other']:.1f} s | {after - calls:.1f} s "
            f"| {shares[-1]:.1%} | {1000 * statistics.median(found['overheads']):.2g} ms |"
        )
    print(
        f"\ntimed and compiling calls: median {statistics.median(shares):.1%} of the time after "
        f"start-up ({min(shares):.1%} to {max(shares):.1%} in {len(shares)} runs)"
    )
    from pytest_diffspeed.accelerators.catalog.cpu import cpu_name
    from pytest_diffspeed.evidence.key import installed_version

    print(
        f"measured on {cpu_name()}; torch {installed_version('torch')}, "
        f"Python {platform.python_version()}; load {os.getloadavg()[0]:.1f}"
    )


def run(words: list[str]) -> dict:
    """One session; seconds."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "wall_share_probe.py").write_text(PROBE, encoding="utf-8")
        (Path(folder) / "test_speed.py").write_text(SUITE, encoding="utf-8")
        out = Path(folder) / "spent.json"
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([folder, str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "WALL_SHARE_OUT": str(out),
            "TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "inductor"),
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--diffspeed",
            "--diffspeed-fresh",
            "-q",
            "-p",
            "wall_share_probe",
            "-p",
            "no:benchmark",
            *words,
        ]
        began_at, began = time.time(), time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
        )
        wall = time.perf_counter() - began
        if not out.exists():
            sys.exit(done.stdout)
        spent = json.loads(out.read_text())
    return {**spent, "wall": wall, "start": spent["collected"] - began_at}


if __name__ == "__main__":
    main()

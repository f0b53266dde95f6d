"""What counting a GPU cost costs: seconds and memory, beside one call on the CPU.

    python benchmarks/gpu_cost_time.py [--rows NAME …] [--runs 3] [--write]

Each run is a process of its own, with one thread.  Runs are kept in build/gpu_cost_time/, so that
an interrupted benchmark goes on; ``--again`` measures them anew.  ``--write`` renews the table in
docs/gpu_cost.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from trials import collect, measured_on, moment

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build/gpu_cost_time"
PAGE = ROOT / "docs/gpu_cost.md"
BEGIN, END = "<!-- gpu-cost-time -->\n", "<!-- /gpu-cost-time -->\n"
ROWS = {
    "demo-eager": ("demo", "bf16"),
    "demo-compiled": ("demo", "bf16+compile"),
    "demo-cpu-call": ("demo", None),
    "sdxl-eager": ("random:sdxl-base", "bf16"),
    "sdxl-compiled": ("random:sdxl-base", "bf16+channels_last+compile"),
    "flux-eager": ("random:flux-dev", "bf16"),
    "flux-compiled": ("random:flux-dev", "bf16+compile"),
}


def measured(source, stack):
    """In this process: seconds of the processor and of the clock, and peak bytes; JSON out."""
    import resource

    started = time.perf_counter()
    depth = []
    if stack is None:
        from pytest_diffspeed.pipelines.call import PipelineCall
        from pytest_diffspeed.pipelines.sources import parse_source

        parsed = parse_source(source)
        pipeline = parsed.build()
        PipelineCall(pipeline, parsed.defaults(pipeline))(pipeline)
    else:
        from pytest_diffspeed.arms.gpu_cost.in_worker import count_here
        from pytest_diffspeed.arms.gpu_cost.order import CountOrder

        cost = count_here(CountOrder(source, stack, "a100"))
        depth = [one.depth for one in cost.calls if one.depth]
    used = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_s = used.ru_utime + used.ru_stime + children.ru_utime + children.ru_stime
    found = {
        "processor_s": processor_s,
        "wall_s": time.perf_counter() - started,
        "peak_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "depth": depth,
    }
    print("\n" + json.dumps(found))


def runs_of(name, wanted):
    """As many processes as are wanted; those that are kept count."""
    return collect(KEPT / f"{name}.jsonl", wanted, lambda: run_of(name))


def run_of(name):
    print(f"measuring {name} …", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
    )
    return {**json.loads(done.stdout.splitlines()[-1]), **moment()}


def table(rows):
    """The table of the docs."""
    lines = [
        "| what | processor | wall | memory | runs | repeated blocks |",
        "|---|---|---|---|---|---|",
    ]
    for name, runs in rows.items():
        source, stack = ROWS[name]
        what = f"`{source}`, one call on the CPU" if stack is None else f"`{source}`, `{stack}`"
        peak = max(run["peak_bytes"] for run in runs)
        lines.append(
            f"| {what} | {seconds(runs, 'processor_s')} | {seconds(runs, 'wall_s')} | "
            f"{peak / 1e9:.1f} GB | {len(runs)} | {'; '.join(runs[-1]['depth'])} |"
        )
    every = [run for runs in rows.values() for run in runs]
    days = sorted({run["at"][:10] for run in every})
    loads = [run["load"] for run in every]
    lines += [
        "",
        f"Measured on {' and '.join(days)} by `make benchmark-gpu-cost-time`:",
        "the middle of the runs, and their least and most. A run is a process of its own with one",
        "thread, imports and building included; memory is the most that one held. The load of a",
        f"machine with {os.cpu_count()} cores was {min(loads):.1f} to {max(loads):.1f}, the run",
        "itself in it. No CPU call stands beside SDXL and Flux: it takes their weights, 14 GB and",
        f"more ({measured_on()}).",
    ]
    return "\n".join(lines) + "\n"


def seconds(runs, figure):
    """The middle of the runs; least and most beside it."""
    values = [run[figure] for run in runs]
    return f"{statistics.median(values):.0f} s ({min(values):.0f}–{max(values):.0f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--runs", type=int, default=3, help="of each row (3 by default)")
    parser.add_argument("--again", action="store_true", help="measure rows that are kept")
    parser.add_argument("--write", action="store_true", help=f"renew the table in {PAGE.name}")
    parser.add_argument("--measure", choices=ROWS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        measured(*ROWS[asked.measure])
        return
    if asked.again:
        for name in asked.rows:
            (KEPT / f"{name}.jsonl").unlink(missing_ok=True)
    rows = {name: runs_of(name, asked.runs) for name in asked.rows}
    print(table(rows))
    if asked.write:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(before + BEGIN + table(rows) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()

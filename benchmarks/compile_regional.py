"""Cold start and speed of `compile` and of `compile_regional`, over the same fp32, in one run.

    python benchmarks/compile_regional.py
    python benchmarks/compile_regional.py --sources demo

A cold start is the first call of an arm in a fresh process with an empty compile cache: seconds on
the clock, and of the processor, inductor's compiling in that process included.  Then one process
loads both from these caches, and calls fp32 and both arms in rounds, in an order that is drawn for
each round; a ratio is the median over the rounds, with the interval that a gate would have.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BASELINE = "fp32"
STACKS = ("compile", "compile_regional")
SOURCES = {
    "demo": "the demo pipeline, a UNet",
    "deep_flux:pipeline": "a Flux of 12 small blocks",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--one", nargs=2, metavar=("SOURCE", "STACK"), help="for its processes")
    parser.add_argument("--rounds-of", metavar="SOURCE", help="for its processes")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(cold_start(*arguments.one, arguments.steps)))
        return
    if arguments.rounds_of:
        print(json.dumps(in_rounds(arguments.rounds_of, arguments.steps, arguments.rounds)))
        return
    from trials import measured_on

    for source in arguments.sources:
        for line in compared(source, arguments):
            print(line, flush=True)
    load = os.getloadavg()[0]
    threads = os.environ.get("OMP_NUM_THREADS", "as many threads as torch takes")
    print(f"\n{arguments.steps} steps a call, OMP_NUM_THREADS: {threads}, load {load:.1f}")
    print(measured_on())


def compared(source: str, arguments: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="compile-regional-") as temporary:
        caches, both = Path(temporary), Path(temporary, "both")
        starts = {}
        for stack in STACKS:
            words = ["--one", source, stack]
            starts[stack] = in_a_process(words, caches / stack, arguments)
            shutil.copytree(caches / stack, both, dirs_exist_ok=True)
        words = ["--rounds-of", source, "--rounds", str(arguments.rounds)]
        speed = in_a_process(words, both, arguments)
    lines = [f"\n{SOURCES[source]} ({source})\n"]
    lines.append("| stack | cold first call | of the processor | over fp32 | a call | pairs |")
    lines.append("|---|---|---|---|---|---|")
    for stack in STACKS:
        start, ratio = starts[stack], speed[stack]
        lines.append(
            f"| {stack} | {start['wall_s']:.1f} s | {start['processor_s']:.1f} s "
            f"| {told(ratio)} | {ratio['call_s']:.3f} s | {ratio['pairs']} |"
        )
    direct = speed["direct"]
    shorter = starts[STACKS[0]]["processor_s"] / starts[STACKS[1]]["processor_s"]
    lines.append(
        f"\n{STACKS[1]} over {STACKS[0]}: {told(direct)} of the speed, from the same rounds; the "
        f"cold start takes {1 / shorter:.0%} of the processor time"
    )
    lines.append(starts[STACKS[1]]["found"])
    return lines


def told(ratio: dict) -> str:
    return f"{ratio['ratio']:.3f}× [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def in_a_process(words: list[str], cache: Path, arguments: argparse.Namespace) -> dict:
    # In the process itself, so that its processor time is that of compiling.
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(cache), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--steps", str(arguments.steps), *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def cold_start(source_text: str, stack: str, steps: int) -> dict:
    from pytest_diffspeed import apply_stack
    from pytest_diffspeed.accelerators.registry import resolve_device
    from pytest_diffspeed.arms.builder import Builder
    from pytest_diffspeed.pipelines.sources import parse_source

    processor = []

    def clock() -> float:
        usage = os.times()  # the C++ compiler runs in children
        processor.append(usage.user + usage.system + usage.children_user + usage.children_system)
        return time.perf_counter()

    source = parse_source(source_text)
    pipeline = source.build()
    call = Builder(resolve_device("cpu"), steps=steps).call(source, pipeline)
    applied = apply_stack(pipeline, stack, call=call, clock=clock)
    return {
        "wall_s": applied.first_call_s,
        "processor_s": processor[1] - processor[0],
        "found": applied.proofs[-1].found,
    }


def in_rounds(source_text: str, steps: int, rounds: int) -> dict:
    from pytest_diffspeed.accelerators.registry import clock_for, resolve_device
    from pytest_diffspeed.arms.builder import Builder
    from pytest_diffspeed.arms.spec import ArmSpec
    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.pipelines.sources import parse_source
    from pytest_diffspeed.techniques.stacks import parse_stack

    device = resolve_device("cpu")
    source, builder = parse_source(source_text), Builder(device, steps=steps)
    arms = {}
    for name in (BASELINE, *STACKS):
        pipeline = source.build()
        call = builder.call(source, pipeline)
        prepared = builder.prepare(ArmSpec(source_text, parse_stack(name)), pipeline, call)
        arms[name] = prepared.arm_of("call")
    clock, order = clock_for(device), list(arms)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with third_party():
        for one in arms.values():
            for _ in range(2):
                one.untimed_call()
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                seconds[name].append(arms[name].timed_call(clock))
    whole, regional = STACKS
    return {
        **{name: ratio_of(seconds[BASELINE], seconds[name]) for name in STACKS},
        "direct": ratio_of(seconds[whole], seconds[regional]),
    }


def ratio_of(baseline: list[float], candidate: list[float]) -> dict:
    import statistics

    from pytest_diffspeed.statistics import SpeedupGate

    gate = SpeedupGate(1.0)
    for pair in zip(baseline, candidate, strict=True):
        gate.update(*pair)
    found = gate.estimate()
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "pairs": found.pairs,
        "call_s": statistics.median(candidate),
    }


if __name__ == "__main__":
    main()

"""What a pipeline call costs on the simulated GPU, as a multiple of the same call on the CPU.

    python benchmarks/simgpu.py [--calls 7] [--steps 4] [SOURCE ...]

Each round times one call on the CPU and one on the simulated GPU, in turn; printed are the median
of the ratios with their range, and the medians of both.  Exits with 1 where a median ratio is above
``--limit``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch

from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.simgpu import SimulatedGpu

SOURCES = ("demo", "random:sdxl-tiny", "random:flux-tiny")


def seconds(call, pipeline, steps):
    started = time.perf_counter()
    call(pipeline, steps=steps)
    return time.perf_counter() - started


def measure(name, calls, steps):
    """Seconds on the CPU and on the simulated GPU, one pair a round after a warm-up round."""
    source = parse_source(name)
    here, there = source.build(), source.build()
    defaults = source.defaults(here)
    call = PipelineCall(here, defaults, defaults.prompts[0])
    pairs = []
    for _ in range(calls + 1):
        cpu_s = seconds(call, here, steps)
        with SimulatedGpu() as gpu:
            if there.device != gpu.device:
                there.to(gpu.device)
            with gpu.record():
                simulated_s = seconds(call, there, steps)
        pairs.append((cpu_s, simulated_s))
    return pairs[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", default=SOURCES)
    parser.add_argument("--calls", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--limit", type=float, default=5.0)
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.steps} steps")
    slow = False
    for name in options.sources:
        with third_party():
            pairs = measure(name, options.calls, options.steps)
        ratios = [simulated / cpu for cpu, simulated in pairs]
        middle = statistics.median(ratios)
        slow = slow or middle > options.limit
        cpu_s, simulated_s = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:<20} {middle:.2f}× [{min(ratios):.2f}, {max(ratios):.2f}] of {len(pairs)}; "
            f"CPU {cpu_s:.3f} s, simulated GPU {simulated_s:.3f} s (measured)"
        )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())

"""What offloading leaves on the device and what it moves, counted on the simulated GPU.

    python benchmarks/offloading.py                        # the table of docs/techniques.md
    python benchmarks/offloading.py --pipeline demo

It needs a build of torch for CUDA and no GPU: the hooks of accelerate move weights to a device that
is called ``cuda``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import torch

from pytest_diffspeed import apply_stack
from pytest_diffspeed.accelerators.device import Device
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.common.text import size
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.simgpu import SimulatedGpu
from pytest_diffspeed.techniques.apply import undo_stack

STACKS = ("model_offload", "group_offload(block_level)", "group_offload")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="random:sdxl-tiny")
    text = parser.parse_args(argv).pipeline
    if torch.cuda.is_available() or not torch.backends.cuda.is_built():
        parser.error("it counts with a CUDA build of torch on a machine without a GPU")
    source = parse_source(text)
    rows: list[tuple[str, Any, Any, Any]] = []
    with SimulatedGpu("cuda") as gpu:
        with third_party():
            pipeline = source.build()
            call = PipelineCall(pipeline, source.defaults(pipeline), "a red apple")
            pipeline.to(gpu.device)
        device = Device("cuda", 0, "Simulated GPU", "simulated")
        for stack in STACKS:
            (proof,) = apply_stack(pipeline, stack, call=call, device=device).proofs
            found = proof.figures
            if not rows:
                rows.append(
                    ("fp32", found["peak_bytes_before"], found["to_device_bytes_before"], 0)
                )
            rows.append(
                (stack, found["peak_bytes"], found["to_device_bytes"], found["to_host_bytes"])
            )
            undo_stack(pipeline, stack)
    print(f"{text}, 2 steps; torch {torch.__version__}, simulated GPU (counted)\n")
    print("| stack | on the device at once | to the device | back |\n|---|---|---|---|")
    for name, *bytes_ in rows:
        print(f"| `{name}` | {' | '.join(map(size, bytes_))} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Our `optimized_pipeline` beside the guide's recipe written out by hand: the same speed?

    python benchmarks/recipe.py

Both arms are the demo pipeline with channels-last memory and fused projections, once eager and once
compiled, and run the same calls.  Ours is what the fixture hands out; the other is the guide
"Accelerate inference" of diffusers, line by line.  What our proofs and guards leave behind on a
pipeline would show as a ratio below 1.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys

import torch

from pytest_diffspeed.accelerators.catalog.cpu import cpu_name
from pytest_diffspeed.accelerators.registry import disturbances_of, resolve_device
from pytest_diffspeed.arms.builder import Builder
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.pipelines.sources import parse_source
from pytest_diffspeed.techniques.precision_flags import ieee_fp32
from pytest_diffspeed.techniques.stacks import parse_stack
from pytest_diffspeed.timing.arm import Arm
from pytest_diffspeed.timing.comparison import Hypothesis
from pytest_diffspeed.timing.speedup import SpeedupMeasurement

LOW, HIGH = 0.97, 1.03
STACKS = ("channels_last+fused_qkv", "channels_last+fused_qkv+compile")


def by_hand(pipeline, compiled: bool):
    """The guide's lines; its inductor flags are set while the first call compiles."""
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    pipeline.fuse_qkv_projections()
    if compiled:
        torch._inductor.config.conv_1x1_as_mm = True
        torch._inductor.config.coordinate_descent_tuning = True
        torch._inductor.config.epilogue_fusion = False
        torch._inductor.config.coordinate_descent_check_all_directions = True
        pipeline.unet = torch.compile(pipeline.unet, fullgraph=True)
        pipeline.vae.decode = torch.compile(pipeline.vae.decode, fullgraph=True)
    return pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds a stack")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = resolve_device("cpu")
    print("| stack | by hand ÷ ours, seconds a call | inside [0.97, 1.03] | pairs | noise a pair |")
    print("|---|---|---|---|---|")
    missed = 0
    for name in STACKS:
        stack = parse_stack(name)
        source, builder = parse_source("demo"), Builder(device, steps=arguments.steps)
        ours = source.build()
        call = builder.call(source, ours)
        prepared = builder.prepare(ArmSpec("demo", stack), ours, call)
        with third_party(), ieee_fp32():
            hand = by_hand(source.build(), "compile" in stack.names)
            call(hand)  # compiles
        arms = [Arm("by hand", lambda c=call, h=hand: c(h), ieee_fp32), prepared.arm_of("call")]
        with third_party():
            (result,) = SpeedupMeasurement(
                [arms],
                [Hypothesis(1.0, precision=1.02)],
                budget_s=arguments.budget,
                seed=random.SystemRandom().randrange(2**32),
                disturbances=disturbances_of(resolve_device("cpu")),
            ).run()
        inside = result.low >= LOW and result.high <= HIGH
        missed += not inside
        print(
            f"| {name} | {result.ratio:.3f} [{result.low:.3f}, {result.high:.3f}] "
            f"| {'yes' if inside else 'NO'} | {result.pairs} | {result.noise:.1%} |",
            flush=True,
        )
        torch.compiler.reset()
    print(
        f"\n{arguments.steps} steps a call, {arguments.threads} threads; the interval covers the "
        f"ratio with {result.coverage:.0%}\nmeasured on {cpu_name()}; torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
    sys.exit(missed)


if __name__ == "__main__":
    main()

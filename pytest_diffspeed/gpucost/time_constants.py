"""What a modelled time is made of beside a GPU's data sheet, each with a range.

All of it is general knowledge of such hardware: what micro-benchmarks and kernel papers say that
well written kernels reach.  Nothing was fitted to a measured pipeline; but whoever chose the values
had seen the published ladders that docs/gpu_cost_time.md compares with, so those are no blind test.
The ranges are a judgement of how far a value may be off, no statistics.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from .gpus import Gpu

DRAWS = 200
"""So that the ends of an interval of 90 % stand on ten draws each."""
_SEED = 0


@dataclass(frozen=True)
class Constant:
    """A value between ``low`` and ``high``, and what it is."""

    value: float
    low: float
    high: float
    what: str


CONSTANTS: Mapping[str, Constant] = MappingProxyType(
    {
        "gemm": Constant(
            0.80,
            0.68,
            0.88,
            "share of the peak that a large well-shaped 16-bit product reaches (cuBLAS on an A100: "
            "about 250 of 312 TFLOP/s)",
        ),
        "gemm.tf32": Constant(1.0, 0.85, 1.1, "that share in TF32 or float32 over that in 16 bits"),
        "gemm.low": Constant(0.75, 0.60, 0.90, "that share in int8 or float8 over that in 16 bits"),
        "conv": Constant(0.60, 0.45, 0.75, "share of the peak of a 3×3 convolution, channels last"),
        "attention.flash": Constant(
            0.58, 0.48, 0.68, "share of the peak of FlashAttention-2 on an A100 (its paper)"
        ),
        "attention.cudnn": Constant(0.58, 0.45, 0.68, "the same of cuDNN's fused attention"),
        "attention.efficient": Constant(
            0.35, 0.25, 0.45, "the same of the memory-efficient kernel"
        ),
        "memory.triton": Constant(
            0.85, 0.78, 0.92, "share of the memory's rate that a generated kernel reaches"
        ),
        "memory.aten": Constant(0.75, 0.62, 0.86, "the same of kernels of ATen, cuDNN and cuBLAS"),
        "l2_gain": Constant(
            2.0, 1.5, 3.0, "how much faster buffers come that fit into half of the L2 cache"
        ),
        "floor_s": Constant(2.5e-6, 1.8e-6, 3.5e-6, "the shortest kernel, seconds"),
        "gap_s": Constant(1.0e-6, 0.6e-6, 1.6e-6, "between two kernels of a stream, seconds"),
        "eager_launch_s": Constant(
            9e-6, 6e-6, 14e-6, "of the CPU for a kernel of an eager model, Python included, seconds"
        ),
        "compiled_launch_s": Constant(
            4e-6, 2.5e-6, 6e-6, "the same from Inductor's wrapper, without CUDA graphs, seconds"
        ),
    }
)
# An H100 at its power limit stays further below the peak of its data sheet, and FlashAttention-2
# has no kernel for its new instructions (350 to 400 of 989 TFLOP/s; FlashAttention-3's paper).
_OF_CAPABILITY: Mapping[tuple[int, int], Mapping[str, tuple[float, float, float]]] = {
    (9, 0): {
        "gemm": (0.68, 0.56, 0.78),
        "gemm.low": (0.88, 0.70, 1.0),
        "conv": (0.45, 0.30, 0.60),
        "attention.flash": (0.36, 0.30, 0.42),
        "attention.cudnn": (0.55, 0.45, 0.65),
        "attention.efficient": (0.22, 0.16, 0.30),
    },
}


def constants_of(gpu: Gpu) -> dict[str, Constant]:
    """By name, for ``gpu``; those of a capability that has no values of its own are an A100's."""
    own = _OF_CAPABILITY.get(gpu.capability, {})
    found = dict(CONSTANTS)
    for name, (value, low, high) in own.items():
        found[name] = replace(found[name], value=value, low=low, high=high)
    return found


def drawn(constants: Mapping[str, Constant], number: int = DRAWS) -> list[dict[str, float]]:
    """``number`` draws of each, its logarithm uniform over its range; the same each time."""
    generator = random.Random(_SEED)
    return [
        {
            name: math.exp(generator.uniform(math.log(one.low), math.log(one.high)))
            for name, one in constants.items()
        }
        for _ in range(number)
    ]

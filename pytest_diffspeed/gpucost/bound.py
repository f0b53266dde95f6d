"""The fastest that a GPU could be: no claim below it can be true."""

from __future__ import annotations

from dataclasses import dataclass

from .cost import TRANSFERS, Cost, Kernel
from .errors import GpuCostError
from .gpus import Gpu


@dataclass(frozen=True)
class CostBound:
    """Seconds at 100 % of a GPU's peaks, which no code reaches.

    ``compute_s``: all products at the peak of their type.  ``memory_s``: what must come from memory
    or go there.  ``seconds``: the slower of both, kernel by kernel.
    """

    compute_s: float
    memory_s: float
    seconds: float

    def share_of(self, claimed_s: float) -> float:
        """The share of the GPU's peaks that ``claimed_s`` needs; above 1 it cannot be true."""
        if claimed_s <= 0:
            raise GpuCostError(f"a call of {claimed_s} s is none: give seconds above 0")
        return self.seconds / claimed_s


def fastest_possible(cost: Cost, gpu: Gpu) -> CostBound:
    """The bound of ``cost`` on ``gpu``, one kernel behind the other, as on one stream.

    A kernel's bytes count beyond twice the L2 cache: as much may have been there from the kernel
    before, and as much may stay for the next one.  Launches, copies from the host and what is
    modelled cost nothing here.

    Raises:
        GpuCostError: for products of a type that ``gpu`` does not have.
    """
    compute = memory = seconds = 0.0
    for kernel in cost.kernels:
        if kernel.kind in TRANSFERS:
            continue
        products = products_s(kernel, gpu)
        moved = max(0, kernel.bytes - 2 * gpu.l2_bytes) / gpu.bytes_per_s
        compute += products
        memory += moved
        seconds += max(products, moved)
    return CostBound(compute, memory, seconds)


def products_s(kernel: Kernel, gpu: Gpu) -> float:
    """Seconds of a kernel's products at the peak of their type.

    Raises:
        GpuCostError: ``gpu`` has no products of that type.
    """
    if not kernel.flops:
        return 0.0
    peak = gpu.flops_per_s.get(kernel.unit, 0)
    if not peak:
        raise GpuCostError(
            f"{gpu.name} has no products in {kernel.unit}, which {kernel.name} at "
            f"{kernel.site or 'an unknown line'} asks for: choose another GPU"
        )
    return kernel.flops / peak

"""GPU cost counted without a GPU: what one call would ask of it, kernel by kernel.

A library of its own: it knows torch and triton, and nothing of diffusers, of pytest or of this
package.  In a process of its own::

    fake = FakeGpu(named_gpu("a100")).install()      # cannot be undone
    with fake.tensors():
        module = fake.on_device(build())             # built on "meta", or real
        cost, answer = count_compiled(module, fake.like(args), fake.like(kwargs), fake=fake)
    print(cost.figures(), cost.notes)

Both counts answer a :class:`Cost` and the fake outputs.  ``counted`` is what Inductor wrote or what
reached the dispatcher: kernels, bytes that must move, FLOPs by type, breaks.  ``modelled`` is which
attention a GPU would choose, and what libraries launch around an op (``hidden``).  No seconds are
told but :func:`fastest_possible`, which nothing can undercut.
"""

from __future__ import annotations

from .bound import CostBound, fastest_possible
from .cost import KINDS, Cost, Kernel
from .counting import count_compiled, count_eager
from .difference import CostComparison, CostLimits, FigureChange, KernelChange, compare_costs
from .errors import GpuCostError, ValueDependentError
from .fake_gpu import FakeGpu
from .gpus import GPUS, UNITS, Gpu, named_gpu
from .resources import (
    KernelResources,
    distinct_sources,
    kernel_resources,
    triton_resources,
)

__all__ = [
    "GPUS",
    "KINDS",
    "UNITS",
    "Cost",
    "CostBound",
    "CostComparison",
    "CostLimits",
    "FakeGpu",
    "FigureChange",
    "Gpu",
    "GpuCostError",
    "Kernel",
    "KernelChange",
    "KernelResources",
    "ValueDependentError",
    "compare_costs",
    "count_compiled",
    "count_eager",
    "distinct_sources",
    "fastest_possible",
    "kernel_resources",
    "named_gpu",
    "triton_resources",
]

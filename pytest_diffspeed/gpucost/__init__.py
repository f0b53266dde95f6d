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
attention a GPU would choose, and what libraries launch around an op (``hidden``).  Of seconds there
are :func:`fastest_possible`, which nothing can undercut, and modelled ones (:mod:`.time_model`),
which are for looking at: no verdict is made of them.

What counts imports torch when it is first asked for; reading and comparing costs does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from .at_most import AtMost, most_a_sync_costs, most_anything_saves, most_saved
from .bound import CostBound, fastest_possible
from .cost import KINDS, Cost, Kernel
from .difference import CostComparison, CostLimits, FigureChange, KernelChange, compare_costs
from .errors import GpuCostError, ValueDependentError
from .gpus import GPUS, UNITS, Gpu, named_gpu
from .resources import (
    KernelResources,
    distinct_sources,
    kernel_resources,
    triton_resources,
)
from .time_model import (
    ERRORS,
    RESOLUTION,
    ModelledRatio,
    ModelledTime,
    modelled_ratio,
    modelled_time,
)

if TYPE_CHECKING:
    from .counting import count_compiled, count_eager
    from .fake_gpu import FakeGpu

_COUNTS = {"FakeGpu": "fake_gpu", "count_compiled": "counting", "count_eager": "counting"}

__all__ = [
    "ERRORS",
    "GPUS",
    "KINDS",
    "RESOLUTION",
    "UNITS",
    "AtMost",
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
    "ModelledRatio",
    "ModelledTime",
    "ValueDependentError",
    "compare_costs",
    "count_compiled",
    "count_eager",
    "distinct_sources",
    "fastest_possible",
    "kernel_resources",
    "modelled_ratio",
    "modelled_time",
    "most_a_sync_costs",
    "most_anything_saves",
    "most_saved",
    "named_gpu",
    "triton_resources",
]


def __getattr__(name: str) -> object:
    if name not in _COUNTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_COUNTS[name]}", __name__), name)

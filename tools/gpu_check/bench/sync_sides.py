"""The two devices whose syncs are compared: a real GPU and the simulated one.

In a dry run the layers that watch a real GPU run on a simulated one called ``cuda``, and the
simulated one is called ``simgpu``, as on a machine with a GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from checks import Part


class Sides:
    """The two devices.  Each is opened for one count and closed again."""

    def __init__(self, real: Callable[[], Any], simulated: Callable[[], Any]) -> None:
        self.real, self.simulated = real, simulated


def sides_of(part: Part) -> Sides:
    from pytest_diffspeed.syncs.backends import SIMULATED, backend

    if part.device == "cuda":
        return Sides(lambda: backend("cuda:0"), lambda: backend(SIMULATED))
    return Sides(lambda: _layers("cuda"), lambda: _simulated("simgpu"))


class CudaLayers:
    """Counts by what a real GPU is watched with: warnings of the sync debug mode, and wrappers."""

    from pytest_diffspeed.accelerators.cuda_syncs import BLIND_SPOTS as blind_spots

    simulated = True  # where the weights go; nothing else is
    evidence = "the layers for CUDA on a simulated GPU"

    def __init__(self, gpu: Any) -> None:
        self.device, self.place = gpu.device, gpu.wrap

    def record(self, tag: Callable[[], object], *, compiled: bool = False) -> Any:
        from pytest_diffspeed.accelerators.cuda_syncs import record_cuda

        return record_cuda(tag, watch_ops=not compiled)


@contextlib.contextmanager
def _layers(kind: str) -> Iterator[Any]:
    from pytest_diffspeed.simgpu import SimulatedGpu

    with SimulatedGpu(kind) as gpu:
        yield CudaLayers(gpu)


@contextlib.contextmanager
def _simulated(kind: str) -> Iterator[Any]:
    from pytest_diffspeed.accelerators.simulated import SimulatedSyncs
    from pytest_diffspeed.simgpu import SimulatedGpu

    with SimulatedGpu(kind) as gpu:
        yield SimulatedSyncs(gpu)

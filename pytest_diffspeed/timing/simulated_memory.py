"""Peak memory of one call on the simulated GPU, where there is no real one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..accelerators.simulated import weights_replaced
from ..common.errors import UncountableError
from ..common.paths import short_path

if TYPE_CHECKING:
    import torch

NOT_COUNTED = (
    "workspaces of kernels",
    "what a caching allocator rounds up, splits and keeps",
)
"""What a GPU's memory holds beside the tensors, and the simulated one does not show."""


@dataclass(frozen=True)
class SimulatedPeak:
    """``allocated_bytes``: of all tensors of the device at the highest moment of the call, the
    weights among them, each storage once.  ``weight_bytes``: of the weights alone.

    ``where`` is the line of user or library code that reached the peak, with its source; ``None``
    where the weights alone are the peak.  ``evidence`` says what counted.
    """

    allocated_bytes: int
    weight_bytes: int
    where: str | None
    evidence: str


def simulated_peak(
    call: Callable[[], object], parts: Mapping[str, torch.nn.Module]
) -> SimulatedPeak:
    """The peak of one ``call`` with the weights of ``parts`` on a simulated GPU.

    Raises:
        UncountableError: the simulated GPU cannot be opened here.
        SourceError: a part is compiled, quantized or not on the CPU.
    """
    import torch

    from ..simgpu import SimulatedGpu, SimulatorError

    try:
        with SimulatedGpu() as gpu:
            # Of another context that is open around this one, or of what nobody has collected yet.
            gc.collect()
            before = gpu.memory.live_bytes
            with weights_replaced(parts, gpu.wrap):
                weights = gpu.memory.live_bytes - before
                gpu.reset_peak_memory()
                call()
                report = gpu.memory
    except SimulatorError as error:
        raise UncountableError(f"memory cannot be counted here: {error}") from error
    site = report.peak_site
    return SimulatedPeak(
        allocated_bytes=report.peak_bytes - before,
        weight_bytes=weights,
        where=None if site is None else f"{short_path(str(site))}  {site.source}".strip(),
        evidence=f"simulated GPU, torch {torch.__version__}",
    )

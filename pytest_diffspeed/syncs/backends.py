"""Who counts: a real GPU or the simulated one.  Both give the same events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch

from ..common.errors import UsageError
from ..simgpu import SimulatedGpu, SimulatorError, SyncLog
from .cuda import BLIND_SPOTS, record_cuda

SIMULATED = "simulated"
VALID = "'simulated', 'cuda' or 'cuda:N'"


class Backend(Protocol):
    """A device on which syncs can be recorded."""

    device: torch.device
    evidence: str
    blind_spots: Sequence[str]
    simulated: bool

    def record(
        self, tag: Callable[[], object], *, compiled: bool = False
    ) -> AbstractContextManager[SyncLog]: ...

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device; on the simulated one without a copy."""
        ...


class _Simulated:
    blind_spots: Sequence[str] = ()
    simulated = True

    def __init__(self, gpu: SimulatedGpu) -> None:
        self._gpu = gpu
        self.device = gpu.device
        self.evidence = f"simulated GPU, torch {torch.__version__}"

    def record(
        self, tag: Callable[[], object], *, compiled: bool = False
    ) -> AbstractContextManager[SyncLog]:
        return self._gpu.record(tag)

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._gpu.wrap(tensor)


class _Cuda:
    blind_spots: Sequence[str] = BLIND_SPOTS
    simulated = False

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.evidence = f"CUDA, {torch.cuda.get_device_name(device)}, torch {torch.__version__}"

    def record(
        self, tag: Callable[[], object], *, compiled: bool = False
    ) -> AbstractContextManager[SyncLog]:
        return record_cuda(tag, watch_ops=not compiled)

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device)


@contextmanager
def backend(device: str | torch.device | None) -> Iterator[Any]:
    """``None``: a real GPU if there is one, the simulated one otherwise.

    Raises:
        UsageError: a device that cannot count syncs, or CUDA where there is none.
    """
    asked = None if device is None else str(device)
    real = torch.cuda.is_available()
    if asked == SIMULATED or (asked is None and not real):
        try:
            with SimulatedGpu() as gpu:
                yield _Simulated(gpu)
        except SimulatorError as error:
            raise UsageError(f"syncs cannot be counted here: {error}") from error
        return
    if asked is not None and not asked.startswith("cuda"):
        raise UsageError(f"device={asked!r} cannot count GPU syncs; valid: {VALID}")
    if not real:
        raise UsageError(
            f"device={asked!r} was asked for, but torch {torch.__version__} finds no CUDA device "
            "here; use device='simulated'"
        )
    yield _Cuda(torch.device(asked or "cuda:0"))

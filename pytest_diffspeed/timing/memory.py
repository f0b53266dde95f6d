"""Peak device memory of one call, as the device's allocator counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from ..device import Device


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at the highest moment of one call.

    ``allocated_bytes`` is what tensors took: the arm's own weights, and what the call added.  Other
    pipelines that lay on the device meanwhile are not in it.  ``reserved_bytes`` is what the
    caching allocator held of the device at its highest, everything included.
    """

    allocated_bytes: int
    reserved_bytes: int


class Allocator(Protocol):
    """The counters of a device's allocator."""

    def reset_peak(self) -> None: ...
    def allocated(self) -> int: ...
    def peak_allocated(self) -> int: ...
    def peak_reserved(self) -> int: ...


class CudaAllocator:
    """torch's caching allocator on one CUDA device."""

    def __init__(self, device: Device) -> None:
        self._device = device.torch_device

    def reset_peak(self) -> None:
        import torch

        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # else the peak of what is reserved is an earlier call's
        torch.cuda.reset_peak_memory_stats(self._device)

    def allocated(self) -> int:
        import torch

        return int(torch.cuda.memory_allocated(self._device))

    def peak_allocated(self) -> int:
        import torch

        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device))

    def peak_reserved(self) -> int:
        import torch

        return int(torch.cuda.max_memory_reserved(self._device))


def allocator_of(device: Device) -> Allocator | None:
    """The counters of ``device``; ``None`` on a CPU, where nobody counts.

    The resident set size of the process is no substitute: it holds the libraries, the other arms
    and what the C allocator keeps for later.
    """
    return CudaAllocator(device) if device.kind == "cuda" else None


def peak_of(call: Callable[[], object], own_bytes: int, allocator: Allocator) -> PeakMemory:
    """The peak of one call of an arm whose weights take ``own_bytes``."""
    allocator.reset_peak()
    others = allocator.allocated() - own_bytes
    call()
    return PeakMemory(allocator.peak_allocated() - others, allocator.peak_reserved())


def bytes_of(modules: Iterable[torch.nn.Module], device: torch.device) -> int:
    """Bytes of the storages of parameters and buffers on ``device``, each storage once; of a
    quantized weight those of the tensors that it is made of.
    """
    from ..adapters.module_state import leaves

    storages = {
        storage.data_ptr(): storage.nbytes()
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
        for leaf in leaves(tensor)
        if leaf.device.type == device.type
        for storage in (leaf.untyped_storage(),)
    }
    return sum(storages.values())

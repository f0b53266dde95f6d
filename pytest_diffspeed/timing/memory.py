"""Peak device memory of one call, as the device's allocator counts it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..accelerators.accelerator import Allocator

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at the highest moment of one call.

    ``allocated_bytes`` is what tensors took: the arm's own weights, and what the call added.  Other
    pipelines that lay on the device meanwhile are not in it.  ``reserved_bytes`` is what the
    caching allocator held of the device at its highest, everything included.
    """

    allocated_bytes: int
    reserved_bytes: int


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

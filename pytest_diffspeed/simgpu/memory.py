"""Live bytes on the simulated device, and where the peak was reached.

Counted, not measured: the bytes of the storages that tensors of the device hold.  A real allocator
rounds each of them up and keeps freed ones, and CUDA kernels need workspaces of their own.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch

from . import torch_private as private
from .events import CallSite, call_sites


@dataclass(frozen=True)
class MemoryReport:
    """``peak_site`` is the line of user or library code that made the allocation of the peak."""

    live_bytes: int
    peak_bytes: int
    peak_op: str | None
    peak_site: CallSite | None

    def __str__(self) -> str:
        where = "" if self.peak_site is None else f" at {self.peak_site} ({self.peak_op})"
        return f"{self.live_bytes} bytes live, {self.peak_bytes} at the peak{where} (counted)"


class DeviceMemory:
    """Counts each storage once, however many views it has, until the last of them is gone."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._live = 0
        self._peak = 0
        self._peak_op: str | None = None
        self._peak_site: CallSite | None = None

    def hold(self, data: torch.Tensor, op: str) -> None:
        """``data`` is now the content of a tensor of the device."""
        storage = data.untyped_storage()
        # The Python object of a storage lives as long as the storage does.
        key = private.storage_key(storage)
        size = storage.nbytes()
        known = self._sizes.get(key)
        if known is None:
            weakref.finalize(storage, self._free, key).atexit = False
        elif known == size:
            return
        self._sizes[key] = size
        self._live += size - (known or 0)
        if self._live > self._peak:
            self._peak = self._live
            self._peak_op = op
            sites = call_sites()
            self._peak_site = sites[0] if sites else None

    def _free(self, key: int) -> None:
        self._live -= self._sizes.pop(key, 0)

    def reset_peak(self) -> None:
        self._peak, self._peak_op, self._peak_site = self._live, None, None

    def report(self) -> MemoryReport:
        return MemoryReport(self._live, self._peak, self._peak_op, self._peak_site)

"""Bytes of the tensors that a piece of eager code makes and holds at once, on any device.

*Counted*: the storages of what ops gave back, each once, from the op that made it until the last
tensor on it is gone.  What a kernel takes for itself while it runs, and what an allocator rounds up
and keeps, is not in it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch

from ..adapters.module_state import leaves
from ..adapters.torch_internals import TorchDispatchMode, storage_key


class LiveBytes(TorchDispatchMode):
    """Counts while it is open; :attr:`peak` is the highest that was alive at one moment.

    What was there before (weights, inputs) is not counted, nor are views of it; with ``device``,
    such as ``"cpu"``, nor is what lies on another one.  A compiled module must not be called under
    it.
    """

    # As for `OpCounter`: torch refuses higher-order operators under a mode without it.
    supports_higher_order_operators = True

    def __init__(self, device: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.live = 0
        self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        given = {storage_key(storage) for storage in self._storages((args, list(named.values())))}
        result = func(*args, **named)
        for storage in self._storages(result):
            key = storage_key(storage)
            if key in self._sizes or key not in given:
                self._hold(key, storage)
        return result

    def _hold(self, key: int, storage: torch.UntypedStorage) -> None:
        before, size = self._sizes.get(key), storage.nbytes()
        if before is None:
            # The Python object of a storage lives as long as the storage does.
            weakref.finalize(storage, self._free, key).atexit = False
        self._sizes[key] = size
        self.live += size - (before or 0)
        self.peak = max(self.peak, self.live)

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)

    def _storages(self, value: Any) -> Iterator[torch.UntypedStorage]:
        if isinstance(value, torch.Tensor):
            for leaf in leaves(value):
                if self.device in (None, leaf.device.type):
                    yield leaf.untyped_storage()
        elif isinstance(value, (list, tuple)):
            for item in value:
                yield from self._storages(item)

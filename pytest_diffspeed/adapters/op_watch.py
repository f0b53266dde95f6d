"""Which op is running, for a warning that does not say it.

``TorchDispatchMode``, seen in torch 2.10 to 2.15.  A compiled module must not be called under
one: it would run eagerly, on 2.13 for good.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..simgpu import SyncKind

_KINDS = {
    "_local_scalar_dense": SyncKind.VALUE_READ,
    "equal": SyncKind.VALUE_READ,
    "allclose": SyncKind.VALUE_READ,
    "masked_fill": SyncKind.VALUE_READ,
    "masked_fill_": SyncKind.VALUE_READ,
    "_linalg_check_errors": SyncKind.VALUE_READ,
    "nonzero": SyncKind.DATA_DEPENDENT_SHAPE,
    "masked_select": SyncKind.DATA_DEPENDENT_SHAPE,
    "_unique2": SyncKind.DATA_DEPENDENT_SHAPE,
    "repeat_interleave": SyncKind.DATA_DEPENDENT_SHAPE,
}


class OpWatch(TorchDispatchMode):
    """``op`` and ``kind`` of the op that runs now, as far as its name and devices tell."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.op = "unknown"
        self.kind = SyncKind.UNCLASSIFIED

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        before = self.op, self.kind
        name = func._schema.name.partition("::")[2]
        self.op, self.kind = f"aten.{name}", _kind(name, args, kwargs or {})
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.op, self.kind = before


def _kind(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SyncKind:
    if name in ("_to_copy", "copy_"):
        source = args[0] if name == "_to_copy" else args[1]
        from_cpu = source.device.type == "cpu"
        return SyncKind.BLOCKING_H2D if from_cpu else SyncKind.BLOCKING_D2H
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [index for index in args[1] if index is not None]
        masks = any(i.dtype == torch.bool and i.device.type != "cpu" for i in indices)
        return SyncKind.DATA_DEPENDENT_SHAPE if masks else SyncKind.BLOCKING_H2D
    return _KINDS.get(name, SyncKind.UNCLASSIFIED)

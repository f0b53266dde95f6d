"""Which op is running, for a warning that does not say it.

``TorchDispatchMode`` and ``OpOverload``, seen in torch 2.11 to 2.15.  A compiled module must not be
called under the mode: it would run eagerly, on 2.13 for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from ..simgpu import SyncKind

_READ, _SHAPE = SyncKind.VALUE_READ, SyncKind.DATA_DEPENDENT_SHAPE
_KINDS = {
    # Of each wait of the op in turn, as the rules of the simulated GPU have them.
    **dict.fromkeys(("_local_scalar_dense", "equal", "allclose", "histc"), (_READ,)),
    **dict.fromkeys(("masked_fill", "masked_fill_", "linspace", "logspace"), (_READ,)),
    **dict.fromkeys(("_linalg_check_errors", "_linalg_eigh", "_linalg_svd"), (_READ,)),
    **dict.fromkeys(("linalg_eig", "_linalg_eigvals", "searchsorted", "bucketize"), (_READ,)),
    **dict.fromkeys(("normal",), (_READ,)),
    **dict.fromkeys(("nonzero", "nonzero_numpy", "masked_select", "isin"), (_SHAPE,)),
    **dict.fromkeys(("_unique2", "_unique", "unique_dim", "unique_consecutive"), (_SHAPE,)),
    **dict.fromkeys(("unique_dim_consecutive",), (_SHAPE,)),
    "repeat_interleave": (_SHAPE, _READ),
    "bincount": (SyncKind.BLOCKING_D2H, _READ),
}
_UNKNOWN = (SyncKind.UNCLASSIFIED,)


class RunningOp(TorchDispatchMode):
    """``op`` is the op that runs now; :meth:`next_kind` says of what kind its next wait is, as far
    as its name and devices tell.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.op = "unknown"
        self._kinds: tuple[SyncKind, ...] = _UNKNOWN
        self._element = torch.zeros(1, device="cpu")

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return self._named(func, args, kwargs or {}, lambda: func(*args, **(kwargs or {})))

    @contextmanager
    def of_direct_calls(self) -> Iterator[None]:
        """Watch what is called through ``torch.ops``, as compiled code does, and nothing else.

        Not together with the mode, which sees these too.
        """
        before = OpOverload.__call__
        watch = self

        def called(op: Any, /, *args: Any, **kwargs: Any) -> Any:
            return watch._named(op, args, kwargs, lambda: before(op, *args, **kwargs))

        OpOverload.__call__ = called  # type: ignore[method-assign]
        try:
            yield
        finally:
            OpOverload.__call__ = before  # type: ignore[method-assign]

    def _named(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], call: Callable[[], Any]
    ) -> Any:
        before = self.op, self._kinds
        library, _, name = func._schema.name.partition("::")
        self.op = f"{library}.{name}"
        self._kinds = _kinds(name, args, kwargs) if library == "aten" else _UNKNOWN
        try:
            return self._heard(call)
        finally:
            self.op, self._kinds = before

    def next_kind(self) -> SyncKind:
        """The last one stays."""
        kind = self._kinds[0]
        self._kinds = self._kinds[1:] or self._kinds
        return kind

    def _heard(self, call: Callable[[], Any]) -> Any:
        """``call()``, with the warnings of torch's C++ code shown before this returns.

        Torch keeps them until the method that Python called ends, which is after all ops of it,
        and what was called through ``torch.ops`` prints them past Python's warnings.  So the op is
        called from inside a method that calls Python back: one end of a method for each op.
        """
        results: list[Any] = []

        def run(_: float) -> float:
            results.append(call())
            return 0.0

        self._element.apply_(run)
        return results.pop()


def _kinds(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[SyncKind, ...]:
    if name in ("_to_copy", "copy_"):
        source = args[0] if name == "_to_copy" else args[1]
        from_cpu = source.device.type == "cpu"
        return (SyncKind.BLOCKING_H2D if from_cpu else SyncKind.BLOCKING_D2H,)
    if name in ("index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"):
        indices = [index for index in args[1] if index is not None]
        masks = any(i.dtype == torch.bool and i.device.type != "cpu" for i in indices)
        return (_SHAPE if masks else SyncKind.BLOCKING_H2D,)
    return _KINDS.get(name, _UNKNOWN)

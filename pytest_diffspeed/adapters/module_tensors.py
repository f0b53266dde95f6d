"""Other tensors in the places of a module's parameters and buffers, for a while.

``Module._parameters`` and ``Module._buffers``, seen in torch 2.11 to 2.15.  Moving a module
there and back with ``to`` would copy its weights twice and leave them at other addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from ..common.errors import DiffspeedError
from .tested import TORCH


@contextmanager
def tensors_replaced(
    modules: Iterable[torch.nn.Module], replace: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Each parameter and buffer is ``replace(it)``; tied ones stay tied, and all come back."""
    made: dict[int, torch.Tensor] = {}

    def other(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in made:
            new = replace(tensor)
            if isinstance(tensor, torch.nn.Parameter):
                new = torch.nn.Parameter(new, requires_grad=False)
            made[id(tensor)] = new
        return made[id(tensor)]

    with ExitStack() as stack:
        for top in modules:
            for module in top.modules():
                for table in (_table(module, "_parameters"), _table(module, "_buffers")):
                    before = dict(table)
                    stack.callback(_put_back, table, before)
                    for name, tensor in before.items():
                        if tensor is not None:
                            table[name] = other(tensor)
        yield


def _table(module: torch.nn.Module, name: str) -> dict[str, torch.Tensor | None]:
    table: dict[str, torch.Tensor | None] | None = vars(module).get(name)
    if table is None:
        raise DiffspeedError(
            f"the weights of {type(module).__name__} cannot be placed on a simulated GPU: it keeps "
            f"no {name}, unlike modules of the torch versions that this was tested with, {TORCH}"
        )
    return table


def _put_back(
    table: dict[str, torch.Tensor | None], before: dict[str, torch.Tensor | None]
) -> None:
    table.clear()
    table.update(before)


class TwoSets:
    """Modules with two sets of tensors: stand-ins most of the time, and the first ones for a while.

    A stand-in has the shape and dtype of its tensor, lies on the CPU and takes no memory: one zero,
    seen from all places.  Small buffers stand in for themselves, with their values.  Inside of
    :meth:`first` the first tensors are in their places; what it leaves in a module, another dtype
    or a quantized weight, is what the next one finds there.  If somebody casts a module outside
    (``vae.to(torch.float32)``), its first tensors are cast too.
    """

    def __init__(self) -> None:
        self._tops: list[torch.nn.Module] = []
        self._known: set[int] = set()
        self._kept: dict[tuple[int, str], torch.Tensor] = {}
        self._tables: list[_Table] = []
        self._first: list[_Table] = []
        self._dtypes: list[dict[str, torch.dtype]] = []
        self._open = 0

    def add(self, module: torch.nn.Module) -> None:
        """Take ``module`` and all inside it; its tensors are its first ones."""
        if any(module is known for known in self._tops):
            return
        assert not self._open, "unreachable because inside of first() nobody calls a module anew"
        self._put_first()
        self._tops.append(module)
        self._note(module)
        self._put_stand_ins()

    @contextmanager
    def first(self) -> Iterator[None]:
        """The first tensors are in the modules while this is open; may be opened again inside."""
        if not self._open:
            self._put_first()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                for module in self._tops:  # a technique may have put modules in
                    self._note(module)
                self._put_stand_ins()

    def _note(self, top: torch.nn.Module) -> None:
        for module in top.modules():
            if id(module) in self._known:
                continue
            self._known.add(id(module))
            self._tables.append(_table(module, "_parameters"))
            buffers = _table(module, "_buffers")
            for name, tensor in buffers.items():
                if tensor is not None and _has_values(tensor):
                    self._kept[len(self._tables), name] = tensor
            self._tables.append(buffers)

    def _put_first(self) -> None:
        cast: dict[int, torch.Tensor] = {}
        for table, first, dtypes in zip(self._tables, self._first, self._dtypes, strict=True):
            outside = dict(table)
            table.clear()
            table.update(first)
            for name, tensor in outside.items():
                before = first.get(name)
                if tensor is None or before is None or tensor.dtype == dtypes[name]:
                    continue
                if id(before) not in cast:
                    new = before.to(tensor.dtype)
                    cast[id(before)] = _as_parameter(new) if _is_parameter(before) else new
                table[name] = cast[id(before)]

    def _put_stand_ins(self) -> None:
        made: dict[int, torch.Tensor] = {}
        self._first = [dict(table) for table in self._tables]
        self._dtypes = [{n: t.dtype for n, t in f.items() if t is not None} for f in self._first]
        for at, table in enumerate(self._tables):
            for name, tensor in list(table.items()):
                if tensor is not None and id(tensor) not in made:
                    kept = self._kept.get((at, name))
                    if kept is None or kept.shape != tensor.shape:
                        made[id(tensor)] = _stand_in(tensor)
                    else:
                        made[id(tensor)] = kept.to(tensor.dtype)
                if tensor is not None:
                    table[name] = made[id(tensor)]


_Table = dict[str, "torch.Tensor | None"]
_FEW_BYTES = 2**20
"""Of a buffer that keeps its values: tables of noise levels, means and scales of latents."""


def _has_values(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) is torch.Tensor and tensor.device.type == "cpu" and tensor.nbytes <= _FEW_BYTES
    )


def _stand_in(tensor: torch.Tensor) -> torch.Tensor:
    new = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    return _as_parameter(new) if _is_parameter(tensor) else new


def _is_parameter(tensor: torch.Tensor) -> bool:
    return isinstance(tensor, torch.nn.Parameter)


def _as_parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(tensor, requires_grad=False)


@contextmanager
def conversions_overwrite() -> Iterator[None]:
    """While this is open, ``module.to(…)`` puts new tensors into modules and changes none in place.

    ``Module._apply`` of torch 2.11 to 2.15 swaps the contents of fake tensors, which it refuses for
    those that anything else holds.  Tied ones stay tied.
    """
    before = torch.nn.Module._apply

    def apply(module: torch.nn.Module, convert: Callable[..., Any], recurse: bool = True) -> Any:
        made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # the old ones stay alive

        def other(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in made:
                new = convert(tensor)
                made[id(tensor)] = tensor, _as_parameter(new) if _is_parameter(tensor) else new
            return made[id(tensor)][1]

        with torch.no_grad():
            for inner in module.modules() if recurse else (module,):
                for table in (_table(inner, "_parameters"), _table(inner, "_buffers")):
                    table.update({n: other(t) for n, t in table.items() if t is not None})
        return module

    torch.nn.Module._apply = apply  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module._apply = before  # type: ignore[method-assign]

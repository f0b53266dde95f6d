"""Other tensors in the places of a module's parameters and buffers, for a while.

``Module._parameters`` and ``Module._buffers``, seen in torch 2.11 to 2.15.  Moving a module
there and back with ``to`` would copy its weights twice and leave them at other addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

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

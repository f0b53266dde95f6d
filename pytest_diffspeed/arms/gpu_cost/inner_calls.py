"""With what modules inside of a component are called, so that they can be called alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


@dataclass(frozen=True)
class InnerCall:
    """A module and the inputs of its call."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class InnerCalls:
    """All calls that were seen, by the address of their module."""

    seen: dict[int, list[InnerCall]] = field(default_factory=dict)

    def alike(self, modules: Iterable[torch.nn.Module]) -> InnerCall | None:
        """The call of the first of ``modules``, if each was called once and with inputs that are
        like those of the others.
        """
        calls = [self.seen.get(id(module), []) for module in modules]
        if not calls or any(len(of_one) != 1 for of_one in calls):
            return None
        described = [_described(of_one[0]) for of_one in calls]
        same = described[0] is not None and all(one == described[0] for one in described)
        return calls[0][0] if same else None


@contextmanager
def inner_calls(modules: Sequence[torch.nn.Module]) -> Iterator[InnerCalls]:
    """See the calls of ``modules`` while this is open."""
    found = InnerCalls()

    def saw(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.seen.setdefault(id(module), []).append(InnerCall(module, args, kwargs))

    with ExitStack() as stack:
        for module in dict.fromkeys(modules):
            handle = module.register_forward_pre_hook(saw, with_kwargs=True)
            stack.callback(handle.remove)
        yield found


def _described(call: InnerCall) -> list[Any] | None:
    """Shapes and types of tensors, and plain values; ``None`` where there is anything else, of
    which nobody can say whether it is alike.

    Not strides: inside of a compiled whole they are the compiler's to choose, whatever an eager
    call has.
    """
    leaves, structure = pytree.tree_flatten((call.args, call.kwargs))
    told: list[Any] = [str(structure)]
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            told.append((tuple(leaf.shape), leaf.dtype, leaf.device))
        elif isinstance(leaf, _PLAIN):
            told.append((type(leaf).__name__, leaf))
        else:
            return None
    return told

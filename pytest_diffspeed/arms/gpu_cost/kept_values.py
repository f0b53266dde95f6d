"""What a component keeps from one call to the next, in Python: counters, caches, flags of hooks.

Two calls with equal inputs cost the same only where this is equal too.
"""

from __future__ import annotations

import functools
import types
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import torch

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, Enum)
_OF_TORCH = frozenset({"_parameters", "_buffers", "_modules", "_is_torch_compile"})
"""Weights, whose shapes no call changes; modules, which are walked by themselves; and what
``torch.compile`` puts on a module that is given to it."""
_OURS = __name__.partition(".")[0]
_WATCHERS = tuple(f"{_OURS}.{folder}" for folder in ("adapters", "arms", "pipelines"))
"""What stands on a component to see its calls changes with each of them."""
_MOST = 1_000_000
"""Values of one component; a denoiser of SDXL's size has some ten thousand."""


def kept_values(module: torch.nn.Module) -> dict[str, str]:
    """Where → value, of all that a call of ``module`` may read and write beside its tensors.

    Attributes of all modules, of what they hold, and of hooks with their closures.  Of tensors
    shape and type, since a count has no values.
    """
    return dict(_walk(module))


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The first of the values that differ, as ``where: before → after``."""
    for where in (*before, *after):
        was, now = before.get(where, "nothing"), after.get(where, "nothing")
        if was != now:
            return f"{where}: {was} → {now}"
    return ""


def _walk(module: torch.nn.Module) -> Iterator[tuple[str, str]]:
    found = 0
    seen: set[int] = set()
    queue: deque[tuple[str, Any]] = deque()
    for name, inner in module.named_modules():
        seen.add(id(inner))
        queue.append((name, _attributes(inner)))
        yield f"{name}.<class>", type(inner).__qualname__
    while queue and found < _MOST:
        where, value = queue.popleft()
        found += 1
        if isinstance(value, _PLAIN):
            yield where, repr(value)[:200]
        elif isinstance(value, torch.Tensor):
            yield where, f"{value.dtype}{tuple(value.shape)}"
        elif id(value) not in seen:
            seen.add(id(value))
            queue.extend((f"{where}.{name}", inner) for name, inner in _inside(value))


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of what ``value`` holds."""
    if isinstance(value, Mapping):
        yield from ((str(key)[:80], inner) for key, inner in list(value.items()))
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        yield from ((str(number), inner) for number, inner in enumerate(list(value)))
    elif isinstance(value, functools.partial):
        yield from (("func", value.func), ("args", value.args), ("keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield from (("self", value.__self__), ("func", value.__func__))
    elif isinstance(value, types.FunctionType):
        if not _is_of(value.__module__):
            yield "attributes", vars(value)
            for number, cell in enumerate(value.__closure__ or ()):
                try:
                    yield value.__code__.co_freevars[number], cell.cell_contents
                except ValueError:  # an empty cell
                    continue
    elif not isinstance(value, (type, types.ModuleType)) and not _is_of(type(value).__module__):
        yield from _attributes(value).items()


def _is_of(module: str | None) -> bool:
    """Whether what is defined there belongs to torch or to what watches a component."""
    name = str(module)
    return name.partition(".")[0] == "torch" or name.startswith(_WATCHERS)


def _attributes(value: Any) -> dict[str, Any]:
    own = getattr(value, "__dict__", None)
    if not isinstance(own, dict):
        return {}
    return {name: inner for name, inner in own.items() if name not in _OF_TORCH}

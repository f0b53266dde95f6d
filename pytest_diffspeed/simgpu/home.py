"""What objects kept of a simulated GPU, brought home to the CPU.

A component may keep tables from call to call (rotary embeddings, masks).  Those that it made or
moved while it ran on a simulated GPU would be tensors of a device that is gone.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from .tensor import DeviceTensor

_NOT_ENTERED = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinMethodType,
)
"""What these hold belongs to more than one object."""
_DEEPEST = 100
"""Levels that are looked through: a network has about three for each module in a module."""


def bring_home(roots: Iterable[object]) -> None:
    """Each device tensor that is held by ``roots``, however deep, becomes its content on the CPU.

    Looked through are attributes, lists, tuples, dicts and deques; a tensor that only a closure or
    a ``functools.cache`` holds is not found.
    """
    seen: set[int] = set()
    for root in roots:
        _home(root, seen, 0)


def _home(value: Any, seen: set[int], depth: int) -> Any:
    """``value``, with what it holds brought home; another object only for tensors and tuples."""
    if isinstance(value, DeviceTensor):
        return value.content
    if isinstance(value, tuple):
        return _tuple(value, seen, depth)
    if (
        depth > _DEEPEST
        or id(value) in seen
        or isinstance(value, (torch.Tensor, str, bytes, *_NOT_ENTERED))
    ):
        return value
    seen.add(id(value))
    if isinstance(value, (list, deque)):
        _replace(value, enumerate(value), seen, depth)
    elif isinstance(value, dict):
        _replace(value, value.items(), seen, depth)
    else:
        own = getattr(value, "__dict__", None)
        if isinstance(own, dict):
            _replace(own, own.items(), seen, depth)
    return value


def _replace(holder: Any, held: Iterable[tuple[Any, Any]], seen: set[int], depth: int) -> None:
    for place, one in list(held):
        new = _home(one, seen, depth + 1)
        if new is not one:
            holder[place] = new


def _tuple(value: tuple[Any, ...], seen: set[int], depth: int) -> tuple[Any, ...]:
    new = [_home(one, seen, depth + 1) for one in value]
    if all(one is before for one, before in zip(new, value, strict=True)):
        return value
    make = getattr(value, "_make", None)  # of a named tuple
    return make(new) if make is not None else tuple(new)

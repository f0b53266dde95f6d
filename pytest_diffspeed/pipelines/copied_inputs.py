"""Copies of what a component is called with: its tensors anew, everything around them rebuilt."""

from __future__ import annotations

import copy as shallow
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree


def copied(inputs: Any) -> Any:
    """``inputs`` with tensors of their own, so that nobody's write to one reaches the other.

    Lists, tuples, mappings and dataclasses are made anew.  A tensor that stands in two places is
    one tensor in the copy too, and strides stay, those of an expanded tensor among them: compiled
    code asks for both.  Everything else (generators, flags, objects) is the same object.
    """
    known: dict[int, torch.Tensor] = {}

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = _copied(tensor)
        return known[id(tensor)]

    return _mapped(copy, inputs)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of a component's inputs or outputs, in their order; also those that hang on an
    object that is no container, as on the distribution that an encoder of a VAE returns.
    """
    found: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    def look(leaf: Any) -> None:
        if leaf is not None and not callable(leaf):
            _mapped(keep, list(getattr(leaf, "__dict__", {}).values()))

    _mapped(keep, value, look)
    yield from found


def bytes_in(value: Any) -> int:
    """Bytes of the tensors in ``value``, each storage once."""
    storages = {
        storage.data_ptr(): storage.nbytes()
        for tensor in tensors_in(value)
        for storage in (tensor.untyped_storage(),)
    }
    return sum(storages.values())


def _mapped(
    function: Callable[[torch.Tensor], torch.Tensor],
    value: Any,
    look: Callable[[Any], object] = lambda _: None,
) -> Any:
    """``value`` with ``function`` of its tensors; ``look`` is told all other leaves."""

    def leaf(found: Any) -> Any:
        if isinstance(found, torch.Tensor):
            return function(found)
        if dataclasses.is_dataclass(found) and not isinstance(found, type):
            fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found) if f.init}
            return dataclasses.replace(found, **_mapped(function, fields, look))
        # A subclass that torch's trees do not know.
        if isinstance(found, dict):
            same = shallow.copy(found)
            same.update(_mapped(function, dict(found), look))
            return same
        if isinstance(found, Mapping):
            return _mapped(function, dict(found), look)
        look(found)
        return found

    return pytree.tree_map(leaf, value)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
        return tensor.clone()
    once = tensor
    for at, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            once = once.narrow(at, 0, 1)
    own = torch.empty_strided(
        once.size(), once.stride(), dtype=tensor.dtype, device=tensor.device
    ).copy_(once)
    return own.expand(tensor.shape)

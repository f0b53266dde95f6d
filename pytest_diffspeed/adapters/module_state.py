"""What torch keeps on a module and a tensor and promises to nobody: hooks, and a count of edits.

``Module._forward_hooks`` and its siblings, and ``Tensor._version``, seen in torch 2.10 to
2.15.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..common.errors import DiffspeedError
from .tested import TORCH


def is_hooks(name: str, value: object) -> bool:
    """Whether an entry of ``vars(module)`` is one of its tables of hooks."""
    return isinstance(value, dict) and name.startswith("_") and "_hooks" in name


def require_hook_tables(module: torch.nn.Module) -> None:
    """Refuse a torch that keeps hooks elsewhere, where a hook would go unnoticed.

    Raises:
        DiffspeedError: :func:`is_hooks` would find none on this module.
    """
    if not is_hooks("_forward_hooks", vars(module).get("_forward_hooks")):
        raise DiffspeedError(
            f"hooks of {type(module).__name__} cannot be seen: it keeps no _forward_hooks, unlike "
            f"modules of the torch versions that pytest-diffspeed was tested with, {TORCH}"
        )


def edits(tensor: torch.Tensor) -> int | None:
    """How often a tensor was written to in place; ``None`` for one of inference mode, which torch
    does not count.
    """
    return None if tensor.is_inference() else int(tensor._version)


def pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensor itself, then the ones that a subclass (a quantized weight) is made of.

    ``__tensor_flatten__`` is what ``torch.compile`` asks of subclasses.
    """
    yield tensor
    flatten: Any = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        for name in flatten()[0]:
            yield from pieces(getattr(tensor, name))


def leaves(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The pieces that hold data: a subclass that is made of others has no storage of its own."""
    return (piece for piece in pieces(tensor) if not hasattr(piece, "__tensor_flatten__"))

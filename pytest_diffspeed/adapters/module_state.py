"""What torch keeps on a module and a tensor and promises to nobody: hooks, marks of compilation,
a count of edits; and the hooks that accelerate and diffusers put beside torch's.

``Module._forward_hooks`` and its siblings, ``Module._compiled_call_impl``,
``OptimizedModule._orig_mod`` and ``Tensor._version``, seen in torch 2.11 to 2.15; ``_hf_hook`` in
accelerate 1.0 to 1.15, ``_diffusers_hook`` in diffusers 0.39 to 0.42.
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


def walked(part: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """``part.named_modules()``, each module once by its first path, several times as fast.

    Torch's own passes every pair up through a generator for each level of the tree.
    """
    seen: set[int] = set()
    waiting = [("", part)]
    while waiting:
        path, module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield path, module
        inside = [
            (f"{path}.{name}" if path else name, child)
            for name, child in module._modules.items()
            if child is not None
        ]
        waiting += reversed(inside)


COMPILED_CALL = "_compiled_call_impl"
"""The attribute in which ``module.compile()`` keeps what it made."""


def is_compiled(part: torch.nn.Module) -> bool:
    """Whether a call of ``part`` runs anything that ``torch.compile`` made."""
    return any(
        getattr(module, COMPILED_CALL, None) is not None or hasattr(module, "_orig_mod")
        for module in part.modules()
    )


def uncompiled(module: torch.nn.Module) -> torch.nn.Module:
    """What ``torch.compile(module)`` wrapped; the module itself where it is no such wrapper."""
    wrapped: torch.nn.Module = getattr(module, "_orig_mod", module)
    return wrapped


def hooks_around_forward(module: torch.nn.Module) -> Iterator[str]:
    """In words, the hooks that replace or surround the forward of this very module."""
    yield from library_hooks(module)
    if module._forward_hooks or module._forward_pre_hooks:
        yield "forward hooks"


def library_hooks(module: torch.nn.Module) -> Iterator[str]:
    """In words, those of accelerate and of diffusers: offloading, caches, casting."""
    accelerate = getattr(module, "_hf_hook", None)
    if accelerate is not None:
        yield f"accelerate's {type(accelerate).__name__}"
    registry = getattr(module, "_diffusers_hook", None)
    for name in getattr(registry, "hooks", {}) if registry is not None else ():
        yield f"diffusers' hook {name!r}"


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
    return (piece for piece in pieces(tensor) if not is_made_of_others(piece))


def is_made_of_others(tensor: torch.Tensor) -> bool:
    """Whether it is a subclass that is made of other tensors, as quantized weights are."""
    return hasattr(tensor, "__tensor_flatten__")

"""Every module that hangs on a pipeline, under the pipeline's own names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

OUR_NOTES = "_diffspeed"
"""How attributes begin in which techniques remember what they changed on a pipeline."""
_DEEPEST = 5
"""Attributes of attributes.  An adapter in a list of a guider is at 3."""


def parts(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """Each module once, by its first name of :func:`named_parts`."""
    found: dict[int, tuple[str, torch.nn.Module]] = {}
    for name, module in named_parts(pipeline).items():
        found.setdefault(id(module), (name, module))
    return dict(found.values())


def named_parts(pipeline: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    """Modules by dotted name, the shortest names first and registered components before others.

    Found are the components and those of sub-pipelines (``prior_pipe.prior``), plain attributes,
    and what is in lists, dicts and objects on the pipeline (``adapters.0``, ``guider.model``).  A
    module with several names stands under each of them.
    """
    import torch

    found: dict[str, torch.nn.Module] = {}
    seen = {id(pipeline)}
    level = list(_inside(pipeline, ""))
    for _ in range(_DEEPEST):
        below: list[tuple[str, Any]] = []
        for name, part in level:
            if isinstance(part, torch.nn.Module):
                found.setdefault(name, part)
            elif id(part) not in seen:
                seen.add(id(part))
                below += _inside(part, name)
        level = below
    return found


def _inside(part: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(part, Mapping):
        yield from _worth_a_look((_dotted(name, str(key)), value) for key, value in part.items())
    elif isinstance(part, (list, tuple)):
        yield from _worth_a_look((f"{name}.{at}", value) for at, value in enumerate(part))
    else:
        registered = getattr(part, "components", None)
        inside = registered if isinstance(registered, Mapping) else {}
        own = getattr(part, "__dict__", None)
        both = {**inside, **(own if isinstance(own, Mapping) else {})}
        yield from _worth_a_look(
            (_dotted(name, key), value)
            for key, value in both.items()
            if not key.startswith(OUR_NOTES)
        )


def _dotted(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _worth_a_look(items: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Without plain values, of which a tokenizer has many thousands."""
    import types

    import torch

    plain = (bool, int, float, complex, str, bytes, type, torch.Tensor)
    code = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.ModuleType)
    return ((k, v) for k, v in items if v is not None and not isinstance(v, (*plain, *code)))

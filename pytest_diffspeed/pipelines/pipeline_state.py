"""What a pipeline is at one moment, to see later whether somebody changed it.

Calling a pipeline changes nothing of this, whatever its stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .components import modules

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

_PLAIN = (bool, int, float, str)


def pipeline_state(pipeline: DiffusionPipeline) -> dict[str, object]:
    """By what it is of (``"unet's hooks"``), something that differs after a change.

    Of each component with weights: which modules it has; pointers, dtypes, shapes and strides of
    weights and buffers, and how often each weight was written to in place; hooks; plain public
    attributes (``training``, ``use_tiling``); and callables on the instances themselves (a compiled
    or replaced ``forward``, attention processors).  Of the scheduler: its configuration and
    replaced methods, but not where it is in a call.  Values are not read.
    """
    known: dict[str, object] = {}
    for name, part in modules(pipeline).items():
        for aspect, value in _of_component(part).items():
            known[f"{name}'s {aspect}"] = hash(value)
    scheduler = getattr(pipeline, "scheduler", None)
    if scheduler is not None:
        known.update(_of_scheduler(scheduler))
    return known


def _of_component(part: torch.nn.Module) -> dict[str, tuple[object, ...]]:
    from ..adapters.module_state import edits, is_hooks, pieces, require_hook_tables

    require_hook_tables(part)
    found: dict[str, list[object]] = {"modules": [], "hooks": [], "settings": [], "methods": []}
    for module in part.modules():
        found["modules"].append(id(module))
        for key, value in vars(module).items():
            if isinstance(value, dict):
                if value and is_hooks(key, value):
                    hooks = ((number, id(hook)) for number, hook in value.items())
                    found["hooks"].append((id(module), key, *hooks))
            elif _is_setting(key, value):
                found["settings"].append((key, value))
            elif callable(value):
                found["methods"].append((id(module), key, id(value)))
                found["settings"].extend(_own_settings(value))
    weights = [
        (key, _place(piece), edits(piece))
        for key, parameter in part.named_parameters()
        for piece in pieces(parameter)
    ]
    buffers = [(key, _place(buffer)) for key, buffer in part.named_buffers()]
    return {
        **{aspect: tuple(values) for aspect, values in found.items()},
        "weights": tuple(weights),
        "buffers": tuple(buffers),
    }


def _is_setting(name: str, value: object) -> bool:
    """Plain and public.  What a model notes under a leading underscore is its own affair, and
    may change in a call.
    """
    if name.startswith("_"):
        return False
    return isinstance(value, _PLAIN) or (
        isinstance(value, tuple) and all(isinstance(item, _PLAIN) for item in value)
    )


def _own_settings(value: Any) -> Iterator[object]:
    """Of an attention processor: its backend and the like."""
    if type(value).__name__ == "function":
        return
    for key, own in getattr(value, "__dict__", {}).items():
        if isinstance(own, _PLAIN):
            yield key, own


def _place(tensor: torch.Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def _of_scheduler(scheduler: Any) -> dict[str, object]:
    own = getattr(scheduler, "__dict__", {})
    config = getattr(scheduler, "config", None) or {}
    # `shift` of the configuration is in force as `_shift`, which `set_shift` writes.
    in_force = [
        (key, own[key])
        for name in config
        for key in (name, f"_{name}")
        if isinstance(own.get(key), _PLAIN)
    ]
    methods = [(key, id(value)) for key, value in own.items() if callable(value)]
    return {
        "scheduler": (id(scheduler), type(scheduler)),
        "scheduler's configuration": (repr(config), tuple(in_force)),
        "scheduler's methods": tuple(sorted(methods)),
    }

"""Hooks of accelerate and diffusers that move weights between host and device while a model runs.

``_hf_hook`` of modules with accelerate's ``CpuOffload`` and ``AlignDevicesHook``, seen in
accelerate 1.15; ``_diffusers_hook`` with its ``hooks`` by name, seen in diffusers 0.39 to 0.42.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from .module_state import walked

_GROUP = ("group_offloading", "lazy_prefetch_group_offloading")


def computes_on(pipeline: Any) -> torch.device:
    """The device on which its models run, wherever the weights of offloaded ones wait.

    ``DiffusionPipeline._execution_device``, seen in diffusers 0.39 to 0.42.
    """
    found: torch.device = getattr(pipeline, "_execution_device", pipeline.device)
    return found


def offload_hooks(part: torch.nn.Module) -> list[str]:
    """What moves the weights of ``part`` or of anything inside it, each kind once."""
    found = dict.fromkeys(name for _, module in walked(part) for name in _of(module))
    return list(found)


def _of(module: torch.nn.Module) -> Iterator[str]:
    own = vars(module)  # asking the module itself for what it lacks takes ten times as long
    given = own.get("_hf_hook")
    for hook in getattr(given, "hooks", (given,)):  # a ``SequentialHook`` holds several
        kind = type(hook).__name__
        if kind == "CpuOffload" or getattr(hook, "offload", False):
            yield f"accelerate's {kind}"
    for name in getattr(own.get("_diffusers_hook"), "hooks", {}):
        if name in _GROUP:
            yield f"diffusers' hook {name!r}"

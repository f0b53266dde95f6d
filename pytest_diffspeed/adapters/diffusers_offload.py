"""Puts the hooks on a pipeline that move its weights between host and device, and takes them off.

``DiffusionPipeline.enable_model_cpu_offload`` with accelerate's ``CpuOffload`` hooks, and
``diffusers.hooks.apply_group_offloading`` with hooks called ``group_offloading`` in
``_diffusers_hook``, seen in diffusers 0.39 to 0.42 and accelerate 1.0 to 1.15.  Both replace
``forward`` on the instance, and what takes their hooks off leaves one there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

_GROUP = "group_offloading"
_REGISTRY = "_diffusers_hook"
_OF_THE_PIPELINE = ("_all_hooks", "_offload_device", "_offload_gpu_id")

Forwards = Mapping[int, object]
"""By the module's ``id``, a ``forward`` that stood on the instance before."""


def own_forwards(parts: Iterable[torch.nn.Module]) -> Forwards:
    return {
        id(module): vars(module)["forward"]
        for part in parts
        for module in part.modules()
        if "forward" in vars(module)
    }


def excluded_from_offloading(pipeline: Any) -> frozenset[str]:
    """Components that ``enable_model_cpu_offload`` leaves on the device."""
    return frozenset(getattr(pipeline, "_exclude_from_cpu_offload", ()))


def why_no_groups(part: torch.nn.Module) -> str | None:
    """Why diffusers cannot offload this component in groups, or ``None``."""
    if getattr(part, "_supports_group_offloading", True):
        return None
    return f"diffusers does not offload a {type(part).__name__} in groups"


def offload_models(pipeline: Any, device: torch.device) -> None:
    """Each component is on the device while it runs, and until the next one does."""
    pipeline.enable_model_cpu_offload(device=device)


def offload_groups(
    part: torch.nn.Module, device: torch.device, *, level: str, blocks: int | None
) -> None:
    """Pieces of ``part`` are on the device while they run: single layers, or ``blocks`` blocks."""
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(
        part,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type=level,
        num_blocks_per_group=blocks,
    )


def remove_offloading(
    pipeline: Any, parts: Iterable[torch.nn.Module], device: torch.device, before: Forwards
) -> None:
    """Take both kinds of hooks off and put the weights on ``device``."""
    from accelerate.hooks import remove_hook_from_module

    for name in _OF_THE_PIPELINE:
        vars(pipeline).pop(name, None)
    for part in parts:
        remove_hook_from_module(part, recurse=True)
        for module in part.modules():
            registry = getattr(module, _REGISTRY, None)
            if registry is not None:
                registry.remove_hook(_GROUP, recurse=False)
                if not registry.hooks:
                    delattr(module, _REGISTRY)
            vars(module).pop("forward", None)
            if id(module) in before:
                vars(module)["forward"] = before[id(module)]
        part.to(device)

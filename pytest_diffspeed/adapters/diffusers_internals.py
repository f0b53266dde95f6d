"""What this package uses of diffusers that diffusers does not promise to keep.

All of it was seen in diffusers 0.39.0 and 0.42.1: ``attn_processors`` and ``set_attn_processor`` of
models, and what ``fuse_qkv_projections`` (marked experimental) leaves on attention modules:
``to_qkv``, ``to_kv``, ``to_added_qkv``, ``fused_projections``, and ``original_attn_processors`` on
the model; ``_diffusers_hook`` of modules with its ``hooks``, the ``_context`` (0.39:
``_current_context``) of what keeps their state, and ``_reset_stateful_cache`` of models.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ..common.errors import DiffspeedError
from .tested import DIFFUSERS

_FUSED = ("to_qkv", "to_kv", "to_added_qkv")


def dtype_word() -> str:
    """What ``from_pretrained`` calls the dtype.

    diffusers 0.40 brought ``dtype`` and warns about ``torch_dtype``; 0.39 ignores ``dtype``.
    """
    import diffusers

    major, minor = (int(number) for number in diffusers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (0, 40) else "torch_dtype"


def processors_of(model: Any) -> dict[str, Any]:
    """The attention processors of a model by path; none where it has no attention."""
    return dict(getattr(model, "attn_processors", {}))


def set_processors(model: Any, processors: dict[str, Any]) -> None:
    """Put processors back; diffusers empties the dictionary that it gets, so it gets a copy."""
    if processors:
        model.set_attn_processor(dict(processors))


def has_plain_processors(model: Any) -> bool:
    """Whether diffusers has processors for it that do not call ``scaled_dot_product_attention``."""
    return hasattr(model, "set_default_attn_processor") and hasattr(model, "set_attn_processor")


def fusable(model: Any) -> dict[str, torch.nn.Module]:
    """Attention modules whose projections ``model.fuse_qkv_projections()`` would fuse."""
    if not hasattr(model, "fuse_qkv_projections"):
        return {}
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "fuse_projections")
        and getattr(module, "_supports_qkv_fusion", True)
        and getattr(module, "to_k", None) is not None
        and not getattr(module, "fused_projections", False)
    }


def added_projections(model: Any) -> bool:
    """Processors with added key and value projections, for which diffusers refuses to fuse."""
    return any("Added" in type(p).__name__ for p in processors_of(model).values())


def fused(model: Any) -> dict[str, torch.nn.Module]:
    """Attention modules that have fused projections now."""
    return {
        name: module
        for name, module in model.named_modules()
        if getattr(module, "fused_projections", False)
        and any(hasattr(module, projection) for projection in _FUSED)
    }


def unfuse(model: Any, processors: dict[str, Any]) -> None:
    """Undo ``fuse_qkv_projections``.

    diffusers' own ``unfuse_qkv_projections`` leaves the fused layers and their memory behind in
    models of the older kind, ``UNet2DConditionModel`` and ``AutoencoderKL`` among them.
    """
    for module in fused(model).values():
        for projection in _FUSED:
            if hasattr(module, projection):
                delattr(module, projection)
        if not hasattr(type(module), "fused_projections"):
            module.fused_projections = False  # type: ignore[assignment]
        else:
            vars(module).pop("fused_projections", None)
    set_processors(model, processors)
    vars(model).pop("original_attn_processors", None)
    left = fused(model)
    if left:
        raise DiffspeedError(
            f"{type(model).__name__} keeps fused projections in {', '.join(left)}: this version of "
            f"diffusers fuses in another way than {DIFFUSERS}, with which pytest-diffspeed was "
            "tested"
        )


def cache_surroundings(model: Any) -> Callable[[], AbstractContextManager[Any]]:
    """Makes the ``cache_context`` in which ``model`` is called right now; its cache hooks need it.

    Pipelines open it around the call of the denoiser, so a call alone is not all of it.
    """
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for hook in getattr(registry, "hooks", {}).values():
            for kept in vars(hook).values():
                # 0.39 and 0.40 keep the name of the context, 0.42 all that it was opened with.
                name = getattr(kept, "_current_context", None)
                if isinstance(name, str):
                    return lambda: model.cache_context(name)
                context = getattr(kept, "_context", None)
                if dataclasses.is_dataclass(context):
                    fields = {f.name: getattr(context, f.name) for f in dataclasses.fields(context)}
                    return lambda: model.cache_context(**fields)
    return nullcontext


def forget_cached(model: Any) -> None:
    """Empty the caches of a model's hooks, as pipelines do at the end of a call."""
    if getattr(model, "is_cache_enabled", False):
        model._reset_stateful_cache()

"""What this package uses of diffusers that diffusers does not promise to keep.

All of it was seen in diffusers 0.39.0 and 0.42.1: ``_diffusers_hook`` of modules with its
``hooks``, the ``_context`` (0.39: ``_current_context``) of what keeps their state,
``_reset_stateful_cache`` of models, and their ``_repeated_blocks``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from .code_names import names_in


def dtype_word() -> str:
    """What ``from_pretrained`` calls the dtype.

    diffusers 0.40 brought ``dtype`` and warns about ``torch_dtype``; 0.39 ignores ``dtype``.
    """
    import diffusers

    major, minor = (int(number) for number in diffusers.__version__.split(".")[:2])
    return "dtype" if (major, minor) >= (0, 40) else "torch_dtype"


def float32_islands(model: Any, dtype: torch.dtype) -> list[str]:
    """Parameters that stay in float32 where ``model`` is loaded in ``dtype``, by its own word.

    ``_keep_in_fp32_modules`` names parts of their paths.  Models of transformers mean float16 by
    it, and have ``_keep_in_fp32_modules_strict`` for bfloat16 too (transformers 4.57 and 5).
    """
    words = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    if hasattr(model, "_keep_in_fp32_modules_strict"):
        words = words if dtype is torch.float16 else set()
        words |= set(model._keep_in_fp32_modules_strict or ())
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and any(f".{word}." in f".{name}." for word in words)
    ]


def casts_by_itself(module: torch.nn.Module) -> bool:
    """Whether the code of a module that diffusers or transformers brings names float32 itself.

    So do rotary embeddings (Mochi's), whose angles would be wrong in fewer bits.  Not the user's
    modules, nor a ``forward`` or an attention processor that somebody put on the instance.
    """
    kind = type(module)
    processor = getattr(module, "processor", None)
    for owner in (kind, type(processor) if processor is not None else kind):
        if owner.__module__.partition(".")[0] not in ("diffusers", "transformers"):
            return False
    return "forward" not in vars(module) and _code_names(kind, {"float32", "float", "autocast"})


def reads_force_upcast(pipeline: Any) -> bool:
    """Whether the code of a pipeline asks its VAE's configuration for ``force_upcast``.

    It does so where it casts a float16 VAE to float32 for the time of a decode; others leave such
    a VAE in float16, whatever its configuration says.
    """
    return any(
        _code_names(kind, {"force_upcast"})
        for kind in type(pipeline).__mro__
        if kind.__name__ != "DiffusionPipeline"
    )


def _code_names(kind: type, wanted: set[str]) -> bool:
    """Whether a function in the body of ``kind`` uses one of the names."""
    functions = (inspect.unwrap(f) for f in vars(kind).values() if inspect.isfunction(f))
    return any(not wanted.isdisjoint(names_in(function.__code__)) for function in functions)


def repeated_block_names(model: torch.nn.Module) -> frozenset[str]:
    """Classes of blocks that ``compile_repeated_blocks`` compiles in ``model``, by its own word.

    A wrapper of several models has none of its own: all of them are asked.
    """
    models = (getattr(module, "_repeated_blocks", None) for module in model.modules())
    return frozenset(name for names in models for name in names or ())


def is_model(module: torch.nn.Module) -> bool:
    """Whether it is a model as diffusers means it, which may have blocks that repeat."""
    return hasattr(type(module), "_repeated_blocks")


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


def stateful_hooks(model: Any) -> Iterator[str]:
    """Names of the hooks in ``model`` that keep something from one call for the next: caches.

    Each says so of itself (``_is_stateful``); seen in diffusers 0.39 to 0.42.
    """
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        for name, hook in getattr(registry, "hooks", {}).items():
            if getattr(hook, "_is_stateful", False):
                yield str(name)


def forget_cached(model: Any) -> None:
    """Empty the caches of a model's hooks, as pipelines do at the end of a call."""
    if getattr(model, "is_cache_enabled", False) or "_reset_stateful_cache" in vars(model):
        model._reset_stateful_cache()


def forget_caches_of(pipeline: Any) -> None:
    """The same of all components, before a call.

    Pipelines do it at the end of a call, which one that raised or was stopped has not reached; and
    diffusers 0.39 leaves its ``cache_context`` open then.
    """
    from diffusers import DiffusionPipeline

    for part in list(vars(pipeline).values()):
        if isinstance(part, torch.nn.Module):
            forget_cached(part)
        elif isinstance(part, DiffusionPipeline):
            forget_caches_of(part)


def forget_hotswap(model: Any) -> None:
    """Have the next adapter loaded as if nobody had prepared for swapping.

    ``enable_lora_hotswap`` leaves what it was told (``_prepare_lora_hotswap_kwargs``) until an
    adapter was loaded, also where loading failed; seen in diffusers 0.39 and 0.42.1.
    """
    vars(model).pop("_prepare_lora_hotswap_kwargs", None)


def takes_adapters(pipeline: Any) -> tuple[str, ...]:
    """The components that diffusers loads LoRA adapters into; none where it loads none.

    Seen in diffusers 0.42.1.
    """
    return tuple(getattr(pipeline, "_lora_loadable_modules", ()))

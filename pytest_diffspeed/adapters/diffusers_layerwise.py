"""Layerwise casting of diffusers: weights in 8 bits between calls, wider inside of each layer.

``_diffusers_hook`` of modules with its ``hooks`` by name, of which ``layerwise_casting`` has a
``storage_dtype`` and a ``compute_dtype``; ``DEFAULT_SKIP_MODULES_PATTERN`` and the layers that
diffusers casts, ``_GO_LC_SUPPORTED_PYTORCH_LAYERS``; seen in diffusers 0.39 to 0.42.
"""

from __future__ import annotations

from typing import Any

import torch

from .module_state import walked

_HOOK = "layerwise_casting"


def why_unusable() -> str | None:
    """A sentence if this diffusers lacks what is used of it; else ``None``."""
    try:
        from diffusers.hooks._common import _GO_LC_SUPPORTED_PYTORCH_LAYERS  # noqa: F401
        from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN  # noqa: F401
    except ImportError as error:
        return (
            f"this diffusers lacks what is used of its layerwise casting ({error}); "
            "pytest-diffspeed was tested with diffusers 0.39 to 0.42"
        )
    return None


def cast_layers(model: torch.nn.Module) -> dict[str, tuple[torch.dtype, torch.dtype]]:
    """The layers of ``model`` that are cast, by path: in what they are stored and computed."""
    found = {}
    for path, module in walked(model):
        hook = getattr(vars(module).get("_diffusers_hook"), "hooks", {}).get(_HOOK)
        if hook is not None:
            found[path] = (hook.storage_dtype, hook.compute_dtype)
    return found


def computed_in(model: torch.nn.Module) -> dict[str, torch.dtype]:
    """The dtype of each parameter that is cast, by name, while its layer runs."""
    return {
        f"{path}.{name}".lstrip("."): compute
        for path, (_, compute) in cast_layers(model).items()
        for name, _ in model.get_submodule(path).named_parameters()
    }


def left_layers(model: Any) -> list[str]:
    """Paths of the layers of kinds that diffusers casts, which it did not cast in ``model``."""
    from diffusers.hooks._common import _GO_LC_SUPPORTED_PYTORCH_LAYERS as KINDS

    cast = cast_layers(model)
    return [n for n, m in model.named_modules() if isinstance(m, KINDS) and n not in cast]


def skip_patterns(model: Any) -> list[str]:
    """Patterns by which layers of ``model`` are left: diffusers' own, and those of its class."""
    from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN

    own = getattr(model, "_skip_layerwise_casting_patterns", None) or ()
    in_float32 = getattr(model, "_keep_in_fp32_modules", None) or ()
    return sorted({*DEFAULT_SKIP_MODULES_PATTERN, *own, *in_float32})

"""Process-wide state of torch and of what compiles for it that has no promised API.

Seen in torch 2.11 to 2.15 and diffusers 0.39 and 0.42.  Modules that nobody imported are not
imported here: what was never loaded cannot have been changed, and dynamo takes seconds to load.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from types import ModuleType
from typing import Any

import torch

from ..common.errors import DiffspeedError
from .tested import DIFFUSERS, TORCH

CONFIGS = ("torch._dynamo.config", "torch._functorch.config", "torch._inductor.config")
_ATTENTION = "diffusers.models.attention_dispatch"
_PLAIN = (bool, int, float, str, bytes, type(None), tuple, frozenset)


def compiler_settings() -> dict[str, Any]:
    """What was set in each loaded config module: ``"torch._inductor.config.max_autotune": True``.

    Reads the overrides only (about 0.1 ms for the 800 entries); the documented export copies every
    default too and takes several times as long.
    """
    found: dict[str, Any] = {}
    for module_name in CONFIGS:
        module = sys.modules.get(module_name)
        if module is None:
            continue
        entries = _entries(module)
        unset = _unset(module)
        for name, entry in entries.items():
            value = entry.user_override
            if isinstance(
                value, ContextVar
            ):  # a context variable in 2.13 and 2.14, the value itself in 2.9
                value = value.get()
            if value is not unset:
                plain = isinstance(value, _PLAIN)
                found[f"{module_name}.{name}"] = value if plain else copy.deepcopy(value)
    return found


def compiler_default(setting: str) -> Any:
    """What a setting is where nobody set it."""
    module, name = _of(setting)
    entry = _entries(module)[name]
    unset = _unset(module)
    for candidate in (entry.env_value_force, entry.env_value_default):
        if candidate is not unset:
            return candidate
    return copy.deepcopy(entry.default)


def set_compiler(setting: str, value: Any) -> None:
    """Set one setting of one config module."""
    module, name = _of(setting)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated settings warn when they are set back too
        setattr(module, name, copy.deepcopy(value))


def _of(setting: str) -> tuple[ModuleType, str]:
    for module_name in CONFIGS:
        if setting.startswith(module_name + "."):
            return sys.modules[module_name], setting[len(module_name) + 1 :]
    raise AssertionError(f"unreachable: {setting} is of no config module")


def _entries(module: ModuleType) -> Mapping[str, Any]:
    entries: Mapping[str, Any] | None = getattr(module, "_config", None)
    if entries is None:
        raise _gone(f"{module.__name__}._config")
    return entries


def _unset(module: ModuleType) -> object:
    try:
        return sys.modules["torch.utils._config_module"].__dict__["_UNSET_SENTINEL"]
    except KeyError:
        raise _gone("torch.utils._config_module._UNSET_SENTINEL") from None


def dynamo_stance() -> object:
    """What ``torch.compiler.set_stance`` set, or ``None`` where dynamo was never loaded."""
    frames = sys.modules.get("torch._dynamo.eval_frame")
    return None if frames is None else frames.__dict__["_stance"]


def set_dynamo_stance(stance: Any) -> None:
    """Put back what :func:`dynamo_stance` read."""
    frames = sys.modules["torch._dynamo.eval_frame"].__dict__
    frames["_set_stance"](type(frames["_stance"])() if stance is None else stance)


def attention_backend() -> str | None:
    """The default attention backend of diffusers, or ``None`` where it was never loaded."""
    module = sys.modules.get(_ATTENTION)
    if module is None:
        return None
    registry = getattr(module, "_AttentionBackendRegistry", None)
    if registry is None or not hasattr(registry, "_active_backend"):
        raise _gone(f"{_ATTENTION}._AttentionBackendRegistry._active_backend")
    return str(getattr(registry._active_backend, "value", registry._active_backend))


def set_attention_backend(name: str) -> None:
    """Make ``name`` diffusers' default attention backend."""
    module: Any = sys.modules[_ATTENTION]
    # All that its `set_active_backend` does; 0.36 has none.
    module._AttentionBackendRegistry._active_backend = module.AttentionBackendName(name)


def sdp_priority() -> tuple[int, ...]:
    """The order in which torch tries its attention kernels."""
    return tuple(torch._C._get_sdp_priority_order())


def set_sdp_priority(order: tuple[int, ...]) -> None:
    """Put back what :func:`sdp_priority` read."""
    torch._C._set_sdp_priority_order(list(order))


def _gone(what: str) -> DiffspeedError:
    return DiffspeedError(
        f"process-wide settings cannot be saved and restored: {what} is not there; "
        f"pytest-diffspeed was tested with torch {TORCH} and diffusers {DIFFUSERS}: install one of "
        "those"
    )

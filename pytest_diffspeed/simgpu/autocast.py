"""Autocast on the Python device, where torch has no kernels for it.

On a device that is called ``cuda`` torch's own autocast casts before an op reaches us.  The lists
are those ops of CUDA's (ATen/autocast_mode.h) that reach the dispatcher under these names; an op
that belongs to a third list (promotion to the widest type) is left to torch's type promotion.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import torch

LOWER = frozenset(
    {"mm", "addmm", "bmm", "baddbmm", "addbmm", "addmv", "addr", "mv", "convolution"}
    | {"_convolution", "matmul", "linear", "scaled_dot_product_attention", "_prelu_kernel"}
)
FLOAT32 = frozenset(
    {"_softmax", "_log_softmax", "exp", "log", "log2", "log10", "log1p", "expm1", "pow", "rsqrt"}
    | {"reciprocal", "sum", "cumsum", "cumprod", "prod", "native_layer_norm", "norm"}
    | {"native_group_norm", "softplus", "acos", "asin", "cosh", "sinh", "tan", "erfinv", "renorm"}
)


class AutocastState:
    """Whether autocast is on for the device, per thread.

    Torch hides its own flag from whoever handles an op below autocast, as we do.
    """

    def __init__(self, device: torch.device) -> None:
        self._type = device.type
        self._on: ContextVar[bool] = ContextVar("autocast", default=False)

    @property
    def on(self) -> bool:
        return self._type != "cuda" and self._on.get()

    def setter(self, real: Callable[..., None]) -> Callable[..., None]:
        """What stands in for ``torch.set_autocast_enabled``, which ``torch.autocast`` calls."""

        def set_autocast_enabled(*args: Any) -> None:
            real(*args)
            if len(args) == 2 and args[0] == self._type:
                self._on.set(bool(args[1]))

        return set_autocast_enabled


def cast(op: str, args: tuple[Any, ...], ours: dict[int, Any]) -> tuple[Any, ...]:
    """The arguments in autocast's type; ``ours`` gets the cast tensors under their new identity."""
    if op in LOWER:
        dtype = torch.get_autocast_dtype(next(iter(ours.values())).device.type) if ours else None
    elif op in FLOAT32:
        dtype = torch.float32
    else:
        return args
    if dtype is None:
        return args

    def to(value: Any) -> Any:
        eligible = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.to(dtype) if eligible and value.dtype != torch.float64 else value

    return tuple(to(arg) for arg in args)

"""Autocast on the Python device, where torch has no kernels for it.

On a device that is called ``cuda`` torch's own autocast casts before an op reaches us.  The lists
are those ops of CUDA's (ATen/autocast_mode.h) that reach the dispatcher under these names; an op
that belongs to a third list (promotion to the widest type) is left to torch's type promotion.
"""

from __future__ import annotations

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


def applies(device: torch.device) -> bool:
    return device.type != "cuda" and torch.is_autocast_enabled(device.type)


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

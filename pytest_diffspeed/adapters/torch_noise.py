"""Noise in half precision that is the noise of float32, rounded.

Torch draws other noise of the same seed in half precision on a CPU (``normal_fill`` of
``ATen/native/cpu/DistributionTemplates.h``): 2.11 makes the uniform numbers behind it in the
tensor's own dtype, of 8 bits in bfloat16; 2.14 and 2.15 make them in float32, and take them in
another order where the number of values is no multiple of 16.  Two arms of different precision
would draw two different images.  GPUs compute noise in float32 and round it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .attributes import replaced

_HALF = (torch.bfloat16, torch.float16)
_RANDN, _RANDN_LIKE = torch.randn, torch.randn_like


@contextmanager
def rounded_noise() -> Iterator[None]:
    """``torch.randn`` and ``torch.randn_like`` draw in float32 on the CPU, and round that.

    Not so inside compiled code, which draws as it was compiled to.
    """
    # Always the same two functions: code that was compiled with one of them is compiled once.
    with replaced(torch, "randn", _randn), replaced(torch, "randn_like", _randn_like):
        yield


def _randn(*args: Any, **kwargs: Any) -> torch.Tensor:
    if torch.compiler.is_compiling():
        return _RANDN(*args, **kwargs)
    return _drawn(_RANDN, torch.get_default_dtype(), torch.get_default_device(), args, kwargs)


def _randn_like(like: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if torch.compiler.is_compiling():
        return _RANDN_LIKE(like, *args, **kwargs)
    return _drawn(_RANDN_LIKE, like.dtype, like.device, (like, *args), kwargs)


def _drawn(
    draw: Callable[..., torch.Tensor],
    dtype: torch.dtype,
    device: torch.device,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> torch.Tensor:
    """``dtype`` and ``device`` are those that hold where ``kwargs`` name none."""
    dtype, asked = kwargs.get("dtype") or dtype, kwargs.get("device")
    device = device if asked is None else torch.device(asked)
    if dtype not in _HALF or device.type != "cpu" or "out" in kwargs:
        return draw(*args, **kwargs)
    return draw(*args, **{**kwargs, "dtype": torch.float32}).to(dtype)

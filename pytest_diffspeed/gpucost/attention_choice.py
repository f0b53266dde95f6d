"""Which attention a GPU would take, re-stated from torch: no CPU can be asked.

After ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp``: flash before memory-efficient before
plain products; from torch 2.13 cuDNN comes first on capabilities 9.0 and 10.0
(``check_prefer_cudnn_attention``, unless ``TORCH_CUDNN_SDPA_DEPRIORITIZED`` is set).  The flags of
``torch.nn.attention.sdpa_kernel`` are honoured.  What is chosen is modelled, never counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from . import torch_private as private
from .errors import GpuCostError

BACKENDS = ("cudnn", "flash", "efficient", "math")
_CUDNN_FIRST_SINCE = (2, 13)
_CUDNN_FIRST_ON = ((9, 0), (10, 0))


@dataclass(frozen=True)
class Inputs:
    """What the choice depends on.  ``last_is_dense``: the width has stride 1 in q, k and v;
    ``enabled``: the backends that flags allow.
    """

    dtype: torch.dtype
    query: tuple[int, ...]
    key: tuple[int, ...]
    value: tuple[int, ...]
    has_mask: bool = False
    last_is_dense: bool = True
    enabled: frozenset[str] = frozenset(BACKENDS)


def prefers_cudnn(
    capability: tuple[int, int], version: tuple[int, ...], environment: Mapping[str, str]
) -> bool:
    """Whether cuDNN comes first."""
    off = environment.get("TORCH_CUDNN_SDPA_DEPRIORITIZED", "0") not in ("", "0")
    return version >= _CUDNN_FIRST_SINCE and capability in _CUDNN_FIRST_ON and not off


def choose(inputs: Inputs, capability: tuple[int, int], cudnn_first: bool) -> str:
    """One of :data:`BACKENDS`.

    Raises:
        GpuCostError: where torch would find no kernel that is allowed.
    """
    # aten/src/ATen/Context.h, sdp_priority_order: elsewhere cuDNN comes last, behind plain products
    order: tuple[str, ...] = ("flash", "efficient", "math", "cudnn")
    order = ("cudnn", *order[:-1]) if cudnn_first else order
    for backend in order:
        if backend in inputs.enabled and _can(backend, inputs, capability):
            return backend
    raise GpuCostError(
        f"no attention kernel of those enabled ({', '.join(sorted(inputs.enabled)) or 'none'}) "
        f"takes queries of {inputs.query} in {inputs.dtype}"
        f"{' with a mask' if inputs.has_mask else ''}: enable another with "
        "`torch.nn.attention.sdpa_kernel`"
    )


def _can(backend: str, inputs: Inputs, capability: tuple[int, int]) -> bool:
    if backend == "math":
        return True
    half = inputs.dtype in (torch.float16, torch.bfloat16)
    width, value_width = inputs.query[-1], inputs.value[-1]
    four = len(inputs.query) == len(inputs.key) == 4
    if not four or not inputs.last_is_dense or 0 in inputs.query + inputs.key:
        return False
    if backend == "cudnn":  # check_cudnn_tensor_shapes: widths that are multiples of 8, up to 256
        most = 256 if capability >= (9, 0) else 128
        same = width == value_width
        return half and same and width % 8 == 0 and width <= most and capability >= (8, 0)
    if backend == "flash":  # no mask, one width, up to 256
        narrow = width == value_width and width <= 256
        return half and narrow and not inputs.has_mask and capability >= (8, 0)
    # memory-efficient: check_head_dim_size_mem_efficient, 16 bytes of alignment
    aligned = 8 if half else 4
    fits = width % aligned == 0 and value_width % aligned == 0
    return (half or inputs.dtype == torch.float32) and fits


def enabled_backends() -> frozenset[str]:
    """Those that this moment's flags allow."""
    cuda = torch.backends.cuda
    flags = {
        "cudnn": cuda.cudnn_sdp_enabled(),
        "flash": cuda.flash_sdp_enabled(),
        "efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
    }
    return frozenset(name for name, on in flags.items() if on)


def attention_for(capability: tuple[int, int], version: tuple[int, ...]) -> Callable[..., Any]:
    """A ``scaled_dot_product_attention`` that calls the op which such a GPU would have run."""
    ops = private.attention_ops()

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        inputs = Inputs(
            dtype=query.dtype,
            query=tuple(query.shape),
            key=tuple(key.shape),
            value=tuple(value.shape),
            has_mask=attn_mask is not None,
            last_is_dense=all(t.stride(-1) == 1 for t in (query, key, value)),
            enabled=enabled_backends(),
        )
        first = prefers_cudnn(capability, version, os.environ)
        backend = choose(inputs, capability, first)
        if backend == "flash":
            return _flash(query, key, value, dropout_p, is_causal, scale)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            # native/transformers/attention.cpp, convert_boolean_attn_mask
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            attn_mask = torch.where(attn_mask, zero, float("-inf"))
        if backend == "efficient":
            if attn_mask is not None:
                attn_mask = _aligned(attn_mask).expand(*query.shape[:-1], key.shape[-2])
            return ops.efficient(
                query, key, value, attn_mask, False, dropout_p, is_causal, scale=scale
            )[0]
        if backend == "cudnn":
            return ops.cudnn(
                query, key, value, attn_mask, False, dropout_p, is_causal, False, scale=scale
            )[0]
        return ops.math(
            query,
            key,
            value,
            attn_mask,
            dropout_p,
            is_causal,
            None,
            scale=scale,
            enable_gqa=enable_gqa,
        )[0]

    def _aligned(mask: Any) -> Any:
        """native/transformers/attention.cpp, pad_bias: rows of a multiple of 16 keys."""
        keys = mask.shape[-1]
        if keys % 16 == 0:
            return mask
        return torch.nn.functional.pad(mask, (0, 16 - keys % 16))[..., :keys]

    def _flash(
        query: Any, key: Any, value: Any, dropout_p: float, is_causal: bool, scale: float | None
    ) -> Any:
        width = query.shape[-1]
        missing = -width % 8  # native/transformers/attention.cpp, pad_last_dim
        scale = width**-0.5 if scale is None else scale
        if missing:
            pad = torch.nn.functional.pad
            query, key, value = (pad(t, (0, missing)) for t in (query, key, value))
        answer = ops.flash(query, key, value, dropout_p, is_causal, False, scale=scale)[0]
        return answer[..., :width] if missing else answer

    return attention

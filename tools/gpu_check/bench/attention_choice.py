"""Which attention kernel torch takes, restated, and what shows which it took.

Restated after ``aten/src/ATen/native/transformers/cuda/sdp_utils.cpp`` as it is in torch 2.11 (the
order, by the variable that its library names) and later; without gradients, dropout or causality.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHOICES = {-1: "error", 0: "math", 1: "flash", 2: "efficient", 3: "cudnn", 4: "overrideable"}
"""``torch.nn.attention.SDPBackend`` by its value."""
_FIRST_WITH_CUDNN_FIRST = 91500
"""cuDNN 9.15: only later versions come first, on sm_90 and sm_100."""
_CUDNN_HEAD = 128
_FLASH_HEAD = 256


@dataclass(frozen=True)
class Shape:
    """``mask``: a boolean one, as pipelines make for text."""

    name: str
    dtype: str
    batch: int
    heads: int
    queries: int
    keys: int
    head: int
    mask: bool = False

    @property
    def small(self) -> Shape:
        """With fewer tokens: what is chosen depends on no length but that of one key."""
        few = min(self.keys, 32)
        return Shape(self.name, self.dtype, 1, 2, min(self.queries, 32), few, self.head, self.mask)


SHAPES = (
    Shape("SDXL self, 64", "bfloat16", 2, 10, 4096, 4096, 64),
    Shape("SDXL text, 64", "bfloat16", 2, 20, 1024, 77, 64),
    Shape("Flux, 128", "bfloat16", 1, 24, 4608, 4608, 128),
    Shape("SD 1.5, 40", "float16", 2, 8, 4096, 4096, 40),
    Shape("SD 1.5, 80", "float16", 2, 8, 1024, 1024, 80),
    Shape("SD 1.5, 160", "float16", 2, 8, 256, 256, 160),
    Shape("PixArt, 72", "bfloat16", 2, 16, 1024, 1024, 72),
    Shape("96", "bfloat16", 1, 16, 1024, 1024, 96),
    Shape("256", "bfloat16", 1, 8, 1024, 1024, 256),
    Shape("VAE, 512", "bfloat16", 1, 1, 4096, 4096, 512),
    Shape("VAE in fp32, 512", "float32", 1, 1, 4096, 4096, 512),
    Shape("fp32, 64", "float32", 2, 10, 1024, 1024, 64),
    Shape("masked, 64", "bfloat16", 2, 10, 1024, 300, 64, mask=True),
    Shape("masked, 128", "bfloat16", 1, 24, 1024, 1024, 128, mask=True),
    Shape("masked, 160", "float16", 2, 8, 256, 77, 160, mask=True),
    Shape("masked fp32, 64", "float32", 2, 10, 1024, 77, 64, mask=True),
    Shape("odd head, 36", "bfloat16", 2, 8, 1024, 1024, 36),
    Shape("odd head, masked, 36", "bfloat16", 2, 8, 256, 256, 36, mask=True),
    Shape("one key, 64", "bfloat16", 2, 8, 256, 1, 64),
)


def rule(
    shape: Shape,
    *,
    device: str,
    capability: tuple[int, int] = (0, 0),
    cudnn: int = 0,
    environment: Mapping[str, str] = os.environ,
) -> str:
    """``cudnn``, ``flash``, ``efficient`` or ``math``.

    ``capability`` of an Ampere or newer; ``cudnn`` as ``torch.backends.cudnn.version()`` says it.
    """
    if device == "cpu":
        return "flash"  # torch has one fused kernel for CPUs, and it takes masks
    half = shape.dtype in ("float16", "bfloat16")
    aligned = shape.head % (8 if half else 4) == 0
    fits = {
        "cudnn": half and shape.head <= _CUDNN_HEAD and shape.head % 8 == 0 and shape.keys != 1,
        "flash": half and shape.head <= _FLASH_HEAD and not shape.mask,
        "efficient": aligned,
    }
    deprioritized = environment.get("TORCH_CUDNN_SDPA_DEPRIORITIZED", "0") == "1"
    cudnn_first = capability[0] in (9, 10) and cudnn > _FIRST_WITH_CUDNN_FIRST and not deprioritized
    order = ("cudnn",) * cudnn_first + ("flash", "efficient")
    return next((backend for backend in order if fits[backend]), "math")


def inputs(shape: Shape, device: Any) -> tuple[tuple[Any, Any, Any], Any]:
    """Query, key, value as pipelines have them (heads out of a wider row), and the mask."""
    import torch

    dtype = getattr(torch, shape.dtype)

    def projected(tokens: int) -> Any:
        wide = torch.randn(
            shape.batch, tokens, shape.heads * shape.head, dtype=dtype, device=device
        )
        return wide.view(shape.batch, tokens, shape.heads, shape.head).transpose(1, 2)

    mask = None
    if shape.mask:
        mask = torch.ones(shape.batch, 1, 1, shape.keys, dtype=torch.bool, device=device)
        mask[..., -3:] = False
    return (projected(shape.queries), projected(shape.keys), projected(shape.keys)), mask


def op_of(names: Mapping[str, int]) -> str:
    """The backend whose op was dispatched, of the ops that the package's watcher counted."""
    for name in names:
        for backend in ("cudnn", "flash", "efficient"):
            if name.startswith(f"_scaled_dot_product_{backend}_attention"):
                return backend
    return "math" if "_safe_softmax" in names or "_softmax" in names else "none"

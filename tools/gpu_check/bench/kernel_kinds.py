"""Kinds of CUDA kernels, by their names: the first pattern that fits says which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

# Names as torch, cuBLAS, cuDNN, CUTLASS and inductor give them.  In this order: cuDNN's
# convolutions call themselves "implicit_gemm", and its attention "sdpa … gemm".
_PATTERNS = (
    ("triton reduction", r"^triton_(red|per)_"),
    ("triton pointwise", r"^triton_poi_"),
    ("triton product", r"^triton_(mm|tem|bmm|convolution|flex)"),
    ("triton other", r"^triton_"),
    (
        "attention",
        r"flash_fwd|flash_bwd|flash_fprop|fmha|sdpa|attention_kernel|AttentionKernel|mha_fprop",
    ),
    ("layout", r"nchwToNhwc|nhwcToNchw|transpose_readWrite|cudnn::ops::.*[Tt]ranspose"),
    ("conv", r"conv|fprop|dgrad|wgrad|implicit|winograd|im2col"),
    ("gemm", r"gemm|gemv|nvjet|cutlass|splitK|cublas"),
    ("normalization", r"RowwiseMoments|GroupNorm|[Ll]ayer_?[Nn]orm|layer_norm|ComputeFusedParams"),
    ("softmax", r"[Ss]oft[Mm]ax"),
    ("copy", r"direct_copy|copy_kernel|CatArray|bfloat16_copy|float16_copy|LoadWithCast"),
    ("reduction", r"reduce_kernel|Reduce|cub::"),
    ("pointwise", r"elementwise|pointwise"),
    ("index", r"index|gather|scatter|embedding|upsample|arange"),
)
_COMPILED = tuple((kind, re.compile(pattern)) for kind, pattern in _PATTERNS)


def kind_of(name: str) -> str:
    """``gemm``, ``conv``, ``attention``, …; ``other`` where no pattern fits."""
    return next((kind for kind, pattern in _COMPILED if pattern.search(name)), "other")


def by_kind(names: Sequence[str]) -> dict[str, int]:
    """How many of each kind, most first."""
    return dict(Counter(kind_of(name) for name in names).most_common())


def by_name(names: Sequence[str], longest: int = 160) -> dict[str, int]:
    """How many of each name; templates are cut, since theirs are kilobytes long."""
    return dict(Counter(name[:longest] for name in names).most_common())


# What each backend of scaled_dot_product_attention runs: its op, and a word of its kernel's name.
ATTENTION_OPS = {
    "cudnn": "_scaled_dot_product_cudnn_attention",
    "flash": "_scaled_dot_product_flash_attention",
    "efficient": "_scaled_dot_product_efficient_attention",
}
_ATTENTION_KERNELS = (
    ("cudnn", r"cudnn.*sdpa|sdpa.*(fprop|cudnn)|cudnn_generated"),
    ("flash", r"flash_fwd|pytorch_flash"),
    ("efficient", r"fmha_cutlass|AttentionKernel|attention_kernel_batched"),
)


def attention_of_kernels(names: Sequence[str]) -> str:
    """Which backend's kernel is among ``names``; ``math`` where there is none."""
    for backend, pattern in _ATTENTION_KERNELS:
        if any(re.search(pattern, name) for name in names):
            return backend
    return "math"

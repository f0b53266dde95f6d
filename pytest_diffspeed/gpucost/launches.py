"""Which kernels one ATen op is, and how much work: the same rules for eager and for compiled code.

Counted: the op, its bytes, its FLOPs by shape.  Modelled, and kept apart as ``hidden``: what the
library launches around it, :data:`HIDDEN` and :func:`conv_hidden`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .cost import FUSED_ATTENTION


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Ops that allocate, rename or ask, and launch nothing.
FREE = _names(
    """
    empty empty_like empty_strided empty_permuted new_empty new_empty_strided detach alias
    lift_fresh lift resize_ set_ is_same_size _assert_tensor_metadata sym_size sym_stride
    sym_numel _assert_async _assert_scalar dim size stride numel is_pinned view reshape
    as_strided _unsafe_view permute _reshape_alias
    """
)
_ADDED_TO = _names("addmm baddbmm bias_addmm addbmm addmv _addmm_activation")
"""Products whose first operand is what they are added to."""
_VECTORS = _names("mv addmv dot vdot")
GEMM = _ADDED_TO | _VECTORS | _names("mm bmm _int_mm _scaled_mm _weight_int8pack_mm")
CONV = _names("convolution conv1d conv2d conv3d cudnn_convolution _convolution")
# Ops of torch's own that multiply in a library or in kernels of which no rule here tells how many
# there are, nor how much work: they are opaque, as an op of somebody else's is.
UNSEEN = _names(
    """
    _native_multi_head_attention _transformer_encoder_layer_fwd _triton_multi_head_attention
    _triton_scaled_dot_attention _flash_attention_forward _efficient_attention_forward
    _cudnn_attention_forward _scaled_dot_product_fused_attention_overrideable
    _grouped_mm _scaled_grouped_mm _weight_int4pack_mm _mixed_dtypes_linear
    _sparse_semi_structured_mm _sparse_semi_structured_addmm _sparse_semi_structured_linear
    _cudnn_rnn miopen_rnn _thnn_fused_lstm_cell _thnn_fused_gru_cell
    convolution_overrideable conv_tbc _slow_conv2d_forward slow_conv3d_forward
    _conv_depthwise2d conv_depthwise3d
    slow_conv_transpose2d slow_conv_transpose3d slow_conv_dilated2d slow_conv_dilated3d
    _trilinear _euclidean_dist _cdist_forward _fft_r2c _fft_c2c _fft_c2r
    _linalg_svd _linalg_eigh _linalg_eigvals linalg_eig _linalg_solve_ex _linalg_det
    _linalg_slogdet linalg_inv_ex linalg_cholesky_ex linalg_lu linalg_lu_factor_ex linalg_lu_solve
    linalg_qr linalg_lstsq linalg_ldl_factor_ex linalg_ldl_solve linalg_solve_triangular
    linalg_householder_product linalg_matrix_exp triangular_solve cholesky cholesky_solve
    cholesky_inverse ormqr geqrf
    """
)
REDUCTION = _names(
    """
    mean sum prod var std var_mean std_mean amax amin max min argmax argmin any all norm
    logsumexp linalg_vector_norm _softmax _safe_softmax softmax _log_softmax
    native_group_norm native_layer_norm _fused_rms_norm rms_norm native_batch_norm cumsum
    cumprod _native_batch_norm_legit_no_training avg_pool2d adaptive_avg_pool2d
    max_pool2d_with_indices _adaptive_avg_pool2d topk sort
    """
)
ORDERS = _names("_to_copy copy_ clone contiguous")
"""Copies that change the type or the order in memory, where they change anything."""
COPY = ORDERS | _names("cat stack repeat constant_pad_nd roll flip")
# Ops that read only some rows of their first tensor: as many bytes as they write.
GATHER = _names("embedding index_select index gather _unsafe_index take")
RULES = "4"
"""Which rules say what is modelled here, and of what kind and how many bytes a kernel is.  To be
raised with each change of them: figures that were saved under other rules must give no verdict."""
# Launches beside the first.  After aten/src/ATen/native/cuda: group norm takes moments, fuses them
# with weight and bias, then normalizes (group_norm_kernel.cu, GroupNormKernelImplInternal);
# `_safe_softmax` is a composite of softmax, eq, all, full and where (native/transformers/
# attention.cpp); a constant pad fills before it copies (native/PadNd.cpp).  Stated after these
# files, measured nowhere.
HIDDEN = {"native_group_norm": 2, "_safe_softmax": 4, "constant_pad_nd": 1}


@dataclass(frozen=True)
class Operand:
    """A tensor as a kernel sees it."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """What there is to read or write: a broadcast dimension counts once."""
        distinct = (s for s, step in zip(self.shape, self.stride, strict=True) if step != 0)
        return math.prod(distinct) * self.dtype.itemsize


@dataclass(frozen=True)
class Work:
    """Kind, shape, FLOPs with their unit, and what is modelled around one op."""

    kind: str
    shape: tuple[int, ...]
    flops: int = 0
    unit: str = ""
    hidden_launches: int = 0
    hidden_bytes: int = 0
    evidence: str = "counted"


def unit_of(dtype: torch.dtype, conv: bool = False) -> str:
    """In what a product of ``dtype`` is computed, under this moment's ``fp32_precision``."""
    if dtype in (torch.float16, torch.bfloat16):
        return "b16"
    if dtype in (torch.int8, torch.uint8):
        return "i8"
    if dtype.is_floating_point and dtype.itemsize == 1:
        return "f8"
    if dtype in (torch.float32, torch.complex64):
        backends: Any = torch.backends
        where = backends.cudnn.conv if conv else backends.cuda.matmul
        return "tf32" if where.fp32_precision == "tf32" else "f32"
    return "f64"


def work(
    name: str, operands: Sequence[Operand], outs: Sequence[Operand], transposed: bool = False
) -> Work:
    """What the op ``name`` does with ``operands``, in the order of its arguments.

    ``transposed``: of a convolution.
    """
    if name in GEMM:
        return _gemm(name, operands)
    if name in CONV and outs:
        return _conv(operands, outs[0], transposed)
    if name in FUSED_ATTENTION:
        return _attention(operands)
    shape = (outs[0].numel,) if outs else ()
    hidden = HIDDEN.get(name, 0)
    largest = max((operand.bytes for operand in (*operands, *outs)), default=0)
    around = hidden * largest
    if name in REDUCTION and outs:
        into = outs[0].numel
        longest = max((o.numel for o in operands), default=into)
        rows = (into, longest // into) if into and longest > into else shape
        return Work("reduction", rows, hidden_launches=hidden, hidden_bytes=around)
    return Work(_moved(name, operands, outs), shape, hidden_launches=hidden, hidden_bytes=around)


def _moved(name: str, operands: Sequence[Operand], outs: Sequence[Operand]) -> str:
    source = operands[-1] if name == "copy_" and operands else operands[0] if operands else None
    if name in ORDERS and source is not None and outs:
        if source.dtype != outs[0].dtype:
            return "cast"
        same = _order(source) == _order(outs[0])
        return "copy" if same else "layout"
    return "copy" if name in COPY else "pointwise"


def _order(operand: Operand) -> tuple[tuple[int, int], ...]:
    """Shape and strides without the dimensions of one element, whose stride means nothing."""
    pairs = zip(operand.shape, operand.stride, strict=True)
    return tuple((size, stride) for size, stride in pairs if size != 1)


def _gemm(name: str, operands: Sequence[Operand]) -> Work:
    if name in _VECTORS:
        left, right = _as_matrices(operands[name in _ADDED_TO :][:2])
    else:
        matrices = [operand for operand in operands if len(operand.shape) >= 2]
        left, right = matrices[-2:] if name in _ADDED_TO else matrices[:2]
    batch = left.shape[0] if len(left.shape) == 3 else 1
    shape = (batch, left.shape[-2], right.shape[-1], left.shape[-1])
    if name == "_weight_int8pack_mm":  # weights are rows, and int8 is only how they lie in memory
        shape = (batch, left.shape[-2], right.shape[-2], left.shape[-1])
    return Work("gemm", shape, _per_product(left) * math.prod(shape), unit_of(left.dtype))


def _as_matrices(operands: Sequence[Operand]) -> tuple[Operand, Operand]:
    """A matrix or a row, and a vector as its column."""
    left, right = operands
    row = left.shape if len(left.shape) == 2 else (1, *left.shape)
    return (
        Operand(row, (row[1], 1), left.dtype),
        Operand((*right.shape, 1), (1, 1), right.dtype),
    )


def _per_product(operand: Operand) -> int:
    """FLOPs of one multiplication and its addition: of complex numbers four of each."""
    return 8 if operand.dtype.is_complex else 2


def _conv(operands: Sequence[Operand], out: Operand, transposed: bool) -> Work:
    x, weight = operands[:2]
    # Each input (transposed) or output element meets a filter of all channels but one dimension's.
    flops = _per_product(x) * (x if transposed else out).numel * math.prod(weight.shape[1:])
    launches, around = conv_hidden(x, weight, out)
    return Work("conv", out.shape, flops, unit_of(x.dtype, conv=True), launches, around)


def is_channels_last(operand: Operand) -> bool:
    """Whether channels are next to each other in memory; shapes of one channel or pixel are."""
    if len(operand.shape) not in (4, 5):
        return False
    if operand.shape[1] == 1 or math.prod(operand.shape[2:]) == 1:
        return True
    return operand.stride[1] == 1


def copies_first(name: str, operands: Sequence[Operand]) -> bool:
    """Whether eager mode copies the first operand into the usual order before the op itself.

    Group norm does, on a GPU whatever the memory format is.  In torch 2.11 the copy reaches the
    dispatcher, in 2.14 it is inside of ``native_group_norm`` (native/group_norm.cpp,
    ``X.contiguous``), where nothing sees it.
    """
    return name == "native_group_norm" and not is_contiguous(operands[0])


def is_contiguous(operand: Operand) -> bool:
    """Whether elements lie in the order of their indices, without gaps."""
    expected = 1
    for size, stride in reversed(_order(operand)):
        if stride != expected:
            return False
        expected *= size
    return True


def conv_hidden(x: Operand, weight: Operand, out: Operand) -> tuple[int, int]:
    """Copies that cuDNN makes for its 16-bit tensor-core kernels, which want channels last.

    Input, weights and output are each read and written again if they are not in that order (NVIDIA,
    "Convolutional Layers User's Guide": NCHW data is transposed).  Torch itself picks the order:
    channels last if input or weights are (``cudnn_conv_suggest_memory_format``).
    """
    half = x.dtype in (torch.float16, torch.bfloat16)
    if not half or len(x.shape) != 4:
        return 0, 0
    filters = math.prod(weight.shape[2:]) > 1 and weight.shape[1] > 1
    wanted = is_channels_last(x) or (filters and is_channels_last(weight))
    if wanted:
        wrong = [tensor for tensor in (x, weight) if not is_channels_last(tensor)]
    else:
        wrong = [x, weight, out]
    return len(wrong), 2 * sum(tensor.bytes for tensor in wrong)


def _attention(operands: Sequence[Operand]) -> Work:
    query, key, value = operands[:3]
    batch, heads, queries, width = query.shape
    keys = key.shape[2]
    flops = 2 * batch * heads * queries * keys * (width + value.shape[3])
    shape = (batch, heads, queries, width, keys)
    return Work("attention", shape, flops, unit_of(query.dtype), evidence="modelled")

"""Which ops make the CPU wait for a CUDA device, and why.

What PyTorch decides above its kernels (``bool()``, ``in``, indexing by a 0-dim tensor, …) reaches
the dispatcher as one of the ops below by itself.  This table says what *CUDA kernels* do, since a
CPU kernel is what really runs here.  Each row names the function of PyTorch's CUDA backend that
waits (paths below ``aten/src/ATen``).  They were checked against the headers (``.h``) and the
machine code of torch 2.13.0 and 2.14.1 (``benchmarks/sync_sources.py`` prints what those functions
call; the CUDA library only of 2.14.1), the copies against PyTorch's Copy.cpp and Copy.cu of 2025,
and indexing against what PyTorch's own ``test_sync_warning`` expects.  The ``linalg`` kernels that
check inside themselves are named from knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from . import torch_private as private
from .events import SyncKind
from .tensor import DeviceTensor

_READ = SyncKind.VALUE_READ
_SHAPE = SyncKind.DATA_DEPENDENT_SHAPE
_TO_DEVICE = SyncKind.BLOCKING_H2D
_TO_HOST = SyncKind.BLOCKING_D2H


@dataclass(frozen=True)
class OpCall:
    """An op with the arguments that reached the dispatcher; ``is_pinned`` knows host memory."""

    overload: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_pinned: Callable[[torch.Tensor], bool]
    to_device: bool | None
    """What the ``device=`` argument says: this device, another one, or nothing."""

    def get(self, position: int, name: str, default: Any = None) -> Any:
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)


Kinds = Sequence[SyncKind]


@dataclass(frozen=True)
class Rule:
    """``kinds(call)`` lists the waits of one call, before it runs."""

    kinds: Callable[[OpCall], Kinds]
    source: str


def _on_device(value: object) -> bool:
    return isinstance(value, DeviceTensor)


def _always(*kinds: SyncKind) -> Callable[[OpCall], Kinds]:
    def rule(call: OpCall) -> Kinds:
        """Of a tensor of the device only."""
        return kinds if any(_on_device(arg) for arg in _tensors(call)) else ()

    return rule


def _filled(value: object) -> bool:
    return isinstance(value, DeviceTensor) and value.numel() > 0


def _of_filled(*kinds: SyncKind) -> Callable[[OpCall], Kinds]:
    def rule(call: OpCall) -> Kinds:
        """Of a tensor of the device with elements: without any, the kernel returns before."""
        return kinds if _filled(call.args[0]) else ()

    return rule


def _tensors(call: OpCall) -> list[object]:
    flat: list[object] = []
    for arg in (*call.args, *call.kwargs.values()):
        flat.extend(arg if isinstance(arg, (list, tuple)) else [arg])
    return flat


def _copy(source: torch.Tensor, host: torch.Tensor | None, non_blocking: bool, up: bool) -> Kinds:
    """A copy between host and device; ``host`` is ``None`` where torch allocates pinned memory."""
    if source.numel() == 0:  # native/Copy.cpp: returns before it reaches the device
        return ()
    if not non_blocking:
        return (_TO_DEVICE if up else _TO_HOST,)
    return () if host is None else (SyncKind.MAY_BLOCK,)


def _to_copy(call: OpCall) -> Kinds:
    source = call.args[0]
    non_blocking = bool(call.get(5, "non_blocking", False))
    if _on_device(source):
        # native/TensorConversions.cpp: the result of a non_blocking copy to the CPU is pinned.
        return _copy(source, None, non_blocking, up=False) if call.to_device is False else ()
    if not call.to_device:
        return ()
    return _copy(source, None if call.is_pinned(source) else source, non_blocking, up=True)


def _copy_(call: OpCall) -> Kinds:
    target, source = call.args[0], call.args[1]
    if _on_device(target) == _on_device(source):
        return ()
    host = source if _on_device(target) else target
    non_blocking = bool(call.get(2, "non_blocking", False))
    up = _on_device(target)
    if target.numel() == 0:
        return ()
    return _copy(source, None if call.is_pinned(host) else host, non_blocking, up=up)


def _is_mask(index: object) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8)


def _indexing(indices: Sequence[object]) -> list[SyncKind]:
    """``expandTensors`` in native/IndexingUtils.h: a mask on the device becomes its ``nonzero``; a
    mask on the CPU is expanded there and copied from pinned memory; other indices on the CPU are
    copied as they are.
    """
    kinds: list[SyncKind] = []
    for index in indices:
        if _on_device(index):
            kinds += [_SHAPE] if _is_mask(index) else []
        elif isinstance(index, torch.Tensor) and not _is_mask(index) and index.numel():
            kinds.append(_TO_DEVICE)
    return kinds


def _index(call: OpCall) -> Kinds:
    return _indexing(call.args[1]) if _on_device(call.args[0]) else ()


def _index_put(call: OpCall) -> Kinds:
    target, indices, value = call.args[0], call.args[1], call.args[2]
    if not _on_device(target):
        return ()
    single = value.numel() == 1 and not _on_device(value)
    given = [index for index in indices if index is not None]
    if single and len(given) == 1 and _is_mask(given[0]) and _on_device(given[0]):
        return ()  # canDispatchToMaskedFill in native/TensorAdvancedIndexingUtils.h
    kinds = _indexing(indices)
    if not _on_device(value) and value.dim() == 0:
        kinds.append(_TO_DEVICE)  # native/TensorAdvancedIndexing.cpp: value.to(self.device())
    return kinds


def _masked_fill(call: OpCall) -> Kinds:
    return (_READ,) if _on_device(call.args[0]) and _on_device(call.args[2]) else ()


def _repeat_interleave(call: OpCall) -> Kinds:
    repeats = call.args[0]
    sized = call.kwargs.get("output_size") is not None
    empty = not (isinstance(repeats, DeviceTensor) and repeats.numel())
    return () if sized or empty else (_SHAPE, _READ)  # the total, then whether any is negative


def _equal(call: OpCall) -> Kinds:
    one, other = call.args[0], call.args[1]
    if not (isinstance(one, DeviceTensor) and isinstance(other, DeviceTensor)):
        return ()
    same = (
        one.content.data_ptr() == other.content.data_ptr()
        and one.stride() == other.stride()
        and one.dtype == other.dtype
    )
    return () if one.shape != other.shape or one.numel() == 0 or same else (_READ,)


def _histc(call: OpCall) -> Kinds:
    low, high = call.get(2, "min", 0), call.get(3, "max", 0)
    return (_READ, _READ) if _filled(call.args[0]) and low == high else ()


def _scalar_arguments(call: OpCall) -> Kinds:
    return [_READ for arg in call.args if isinstance(arg, DeviceTensor)]


def _isin(call: OpCall) -> Kinds:
    elements, tested = call.args[0], call.args[1]
    if not (isinstance(elements, torch.Tensor) and isinstance(tested, torch.Tensor)):
        return ()
    if not _filled(elements):
        return ()
    unique = bool(call.kwargs.get("assume_unique", False))
    few = tested.numel() < int(10.0 * elements.numel() ** 0.145)
    return () if few or unique else (_SHAPE, _SHAPE)


def _searchsorted(call: OpCall) -> Kinds:
    return (_READ, _READ) if _on_device(call.kwargs.get("sorter")) else ()


def _normal(call: OpCall) -> Kinds:
    if private.VERSION >= (2, 14):  # from then on `_assert_async` where the tensor is CUDA's
        return ()
    return (_READ,) if _filled(call.get(1, "std")) else ()


@dataclass(frozen=True)
class _Row:
    ops: tuple[str, ...]
    kinds: Callable[[OpCall], Kinds]
    source: str = field(default="")


_ROWS = (
    _Row(("_local_scalar_dense",), _always(_READ), "native/cuda/CUDAScalar.cu: memcpy_and_sync"),
    _Row(
        ("_to_copy",),
        _to_copy,
        "native/cuda/Copy.cu copy_kernel_cuda: memcpy_and_sync unless non_blocking",
    ),
    _Row(("copy_",), _copy_, "native/cuda/Copy.cu copy_kernel_cuda"),
    _Row(
        ("nonzero", "nonzero_numpy"),
        _always(_SHAPE),
        "native/cuda/Nonzero.cu: the number of elements is copied to the CPU",
    ),
    _Row(
        ("masked_select",),
        _always(_SHAPE),
        "native/cuda/IndexKernel.cpp masked_select_out_cuda: indexes by the mask",
    ),
    _Row(("index", "_unsafe_index"), _index, "native/IndexingUtils.h expandTensors"),
    _Row(
        ("index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"),
        _index_put,
        "native/IndexingUtils.h expandTensors; TensorAdvancedIndexingUtils.h",
    ),
    _Row(
        ("masked_fill", "masked_fill_"),
        _masked_fill,
        "native/cuda/Indexing.cu masked_fill__cuda: value.item() for a tensor of the device",
    ),
    _Row(
        ("_unique2", "unique_dim", "unique_consecutive", "_unique", "unique_dim_consecutive"),
        _of_filled(_SHAPE),
        "native/cuda/Unique.cu, UniqueCub.cu: the number of elements is read",
    ),
    _Row(
        ("bincount",),
        _of_filled(_TO_HOST, _READ),
        "native/cuda/SummaryOps.cu _bincount_cuda_template: min().cpu(), then max().item()",
    ),
    _Row(
        ("histc",), _histc, "native/cuda/SummaryOps.cu: item() of both of aminmax() if min == max"
    ),
    _Row(
        ("repeat_interleave",),
        _repeat_interleave,
        "native/Repeat.h without output_size: cumsum[-1].item(), then (repeats >= 0).all().item()",
    ),
    _Row(("equal",), _equal, "native/cuda/Equal.cpp: eq(…).all().item(), past its fast paths"),
    _Row(("allclose",), _always(_READ), "native/TensorCompare.cpp: isclose(…).all().item()"),
    _Row(("isin",), _isin, "native/TensorCompare.cpp: _unique2 of both, above a size"),
    _Row(
        ("linspace", "logspace"),
        _scalar_arguments,
        "native/TensorFactories.cpp: item() of each 0-dim tensor argument",
    ),
    _Row(
        ("_linalg_check_errors",),
        _always(_READ),
        "native/BatchLinearAlgebra.cpp: infos.any().item() after solve, inv, cholesky",
    ),
    _Row(
        ("_linalg_eigh", "_linalg_svd", "linalg_eig", "_linalg_eigvals"),
        _always(_READ),
        "native/BatchLinearAlgebra.cpp: the same check inside the kernel",
    ),
    _Row(
        ("searchsorted", "bucketize"),
        _searchsorted,
        "native/BucketizationUtils.h searchsorted_pre_check: bounds of `sorter`",
    ),
    _Row(
        ("normal",),
        _normal,
        "native/DistributionTemplates.h CHECK_NORMAL_TENSOR_STD: item(), up to torch 2.13",
    ),
)

RULES: dict[str, Rule] = {op: Rule(row.kinds, row.source) for row in _ROWS for op in row.ops}
"""By the name of the op without namespace and overload."""

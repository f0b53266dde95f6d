"""The one place that reads and writes torch's float32 precision flags.

Two APIs exist (facts of torch 2.11, 2.13 and 2.14): the legacy booleans, and ``fp32_precision`` on
``torch.backends`` and its parts.  Once a new one was set, *reading* a legacy one can raise, so this
module decides by the new one, and restores what it found.  The legacy precision of matrix products
is made to say the same: inductor reads it while it chooses among kernels for one (max-autotune).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..common.errors import NotEffectiveError

# Where a flag lives below `torch.backends`.  Convolutions default to TF32 on CUDA, which is why a
# naive "fp32" baseline is none.  oneDNN is the CPU's counterpart.
_OWNERS = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)
_LEGACY = {"ieee": "highest", "tf32": "high"}
"""By value of the new flags, the word of ``torch.set_float32_matmul_precision``."""
FLAGS = frozenset(f"{owner}.fp32_precision" for owner in _OWNERS)
"""The flags that :func:`ieee_fp32` sets, as they are called below ``torch.backends``."""


def _flags() -> dict[str, Any]:
    import torch

    owners: dict[str, Any] = {}
    for path in _OWNERS:
        owner: Any = torch.backends
        for part in path.split("."):
            owner = getattr(owner, part)
        owners[path] = owner
    return owners


@contextmanager
def fp32_precision(value: str) -> Iterator[None]:
    """Compute float32 products and convolutions in ``value``: ``"ieee"`` or ``"tf32"``."""
    import torch

    # A flag that has the value already is left alone: it may have inherited that from all backends'
    # flag, and writing it would cut the tie.
    owners = [owner for owner in _flags().values() if owner.fp32_precision != value]
    before = [owner.fp32_precision for owner in owners]
    legacy = _legacy()
    try:
        if legacy not in (None, _LEGACY[value]):
            torch.set_float32_matmul_precision(_LEGACY[value])  # writes new flags too, as they will
        for owner in owners:
            owner.fp32_precision = value
        yield
    finally:
        if legacy not in (None, _LEGACY[value]):
            torch.set_float32_matmul_precision(legacy)
        for owner, own in zip(owners, before, strict=True):
            owner.fp32_precision = own


def _legacy() -> str | None:
    """The legacy precision of matrix products; ``None`` where torch refuses to read it."""
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it contradicts the new flags, which somebody has set
        return None


@contextmanager
def ieee_fp32() -> Iterator[None]:
    """Compute float32 products and convolutions in IEEE precision, on CUDA and on the CPU."""
    with fp32_precision("ieee"):
        yield


def require_ieee() -> dict[str, str]:
    """Read the flags back.

    Raises:
        NotEffectiveError: if one of them is not IEEE.
    """
    flags = {path: str(owner.fp32_precision) for path, owner in _flags().items()}
    wrong = {path: value for path, value in flags.items() if value != "ieee"}
    if wrong:
        raise NotEffectiveError(f"fp32: expected IEEE precision everywhere, found {wrong}")
    return flags

"""Watch one untimed call: the dtypes of the matrix products and convolutions that ran.

A compiled module must never be called under a dispatch mode (it would run eagerly, for good on some
versions), so this is used before compilation is applied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from ..adapters.torch_internals import TorchDispatchMode
from ..pipelines.components import denoiser, vae

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

# Substrings of aten op names that do the arithmetic of a diffusion model.
_ARITHMETIC = ("mm", "conv", "linear", "bmm", "scaled_dot_product")


class OpDtypes(TorchDispatchMode):
    """Counts arithmetic ops by dtype while ``watching`` is positive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[str] = Counter()
        self.watching = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if self.watching and any(word in func.__name__ for word in _ARITHMETIC):
            tensors = [a for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()]
            if tensors:
                self.counts[str(tensors[-1].dtype)] += 1
        return func(*args, **(kwargs or {}))


def op_dtypes(pipeline: DiffusionPipeline, call: Callable[[], object]) -> Counter[str]:
    """Dtypes of the arithmetic in the denoiser and the VAE's decoder during ``call()``."""
    mode = OpDtypes()

    def enter(*_: object) -> None:
        mode.watching += 1

    def leave(*_: object) -> None:
        mode.watching -= 1

    parts = [denoiser(pipeline), getattr(vae(pipeline), "decoder", None)]
    handles = []
    for part in parts:
        if part is not None:
            handles.append(part.register_forward_pre_hook(enter))
            handles.append(part.register_forward_hook(leave, always_call=True))
    try:
        with mode:
            call()
    finally:
        for handle in handles:
            handle.remove()
    return mode.counts

"""Other kernels for the same arithmetic: how far the choice of kernels alone moves an image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def other_kernels() -> Iterator[None]:
    """Attention as matrix products and softmax, and convolutions without cuDNN and oneDNN.

    Only eager code notices.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # The flags alone: the context managers of these modules also set the precision flags.
    owners: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.mkldnn)
    before = [owner.enabled for owner in owners]
    try:
        for owner in owners:
            owner.enabled = False
        with sdpa_kernel([SDPBackend.MATH]):
            yield
    finally:
        for owner, enabled in zip(owners, before, strict=True):
            owner.enabled = enabled

"""What a CUDA device must be able to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..accelerators.device import Device


def capability_below(device: Device, least: tuple[int, int]) -> str | None:
    """A sentence if a CUDA device is older than compute capability ``least``, else ``None``."""
    import torch

    found = torch.cuda.get_device_capability(device.torch_device)
    if found >= least:
        return None
    return (
        f"it needs compute capability {least[0]}.{least[1]}, and this GPU has {found[0]}.{found[1]}"
    )

"""A device that calls run on."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Device:
    """``kind`` is torch's word for it, as ``cpu``; ``name`` is what the maker calls it; ``key``
    identifies it among the processes of this machine (for the lock that keeps timings apart).
    ``driver`` is the version of a GPU's driver, ``None`` where nobody tells.
    """

    kind: str
    index: int | None
    name: str
    key: str
    driver: str | None = None

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device(self.kind if self.index is None else f"{self.kind}:{self.index}")

    def matches(self, pattern: str) -> bool:
        """Whether a marker's ``device=`` means this one: ``cpu``, ``cuda`` or a name pattern."""
        return pattern in (self.kind, f"{self.kind}:{self.index}") or fnmatch.fnmatchcase(
            self.name.lower(), pattern.lower()
        )

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"

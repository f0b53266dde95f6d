"""A simulated GPU: finds the host syncs of real code without the hardware.

A library of its own: it knows torch, and nothing of diffusers, of pytest or of this package.
"""

from __future__ import annotations

from .device import SimulatedGpu
from .events import CallSite, SyncEvent, SyncKind, SyncLog
from .home import bring_home
from .memory import MemoryReport
from .torch_private import SimulatorError

__all__ = [
    "CallSite",
    "MemoryReport",
    "SimulatedGpu",
    "SimulatorError",
    "SyncEvent",
    "SyncKind",
    "SyncLog",
    "bring_home",
]

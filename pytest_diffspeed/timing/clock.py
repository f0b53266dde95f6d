"""Clocks.  A clock times one call; it is injected, so that tests script drift and spikes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from ..device import Device

T = TypeVar("T")


class Clock(Protocol):
    """Times one call of a function without arguments."""

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        """Seconds that ``call()`` took, and what it returned."""


class WallClock:
    """The CPU's clock.  ``now`` is injectable and must not run backwards."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        started = self._now()
        result = call()
        return self._now() - started, result


class CudaClock:
    """Device events around the call, synchronized outside the timed region.

    Has run on no GPU yet.
    """

    def __init__(self, device: Device) -> None:
        self._device = device.torch_device

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        import torch

        torch.cuda.synchronize(self._device)
        started = torch.cuda.Event(enable_timing=True)
        ended = torch.cuda.Event(enable_timing=True)
        stream = torch.cuda.current_stream(self._device)
        started.record(stream)
        result = call()
        ended.record(stream)
        ended.synchronize()
        return started.elapsed_time(ended) / 1000.0, result


def clock_for(device: Device) -> Clock:
    return CudaClock(device) if device.kind == "cuda" else WallClock()

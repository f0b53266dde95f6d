"""Clocks.  A clock times one call; it is injected, so that tests script drift and spikes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from ..accelerators.device import Device

T = TypeVar("T")


class Clock(Protocol):
    """Times one call of a function without arguments."""

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        """Seconds that ``call()`` took, and what it returned."""


@runtime_checkable
class StampClock(Clock, Protocol):
    """A clock that also marks moments inside a call, for the times of its stages.

    A stamp is taken while the call runs, so it must cost next to nothing and must not wait for the
    device; what it says is read after the call.
    """

    def prepare(self) -> None:
        """Wait until the device has nothing left to do; outside of what is timed."""

    def stamp(self) -> Any:
        """Mark this moment."""

    def seconds(self, stamps: Sequence[Any]) -> list[float]:
        """Seconds from the first stamp to each of them; outside of what is timed."""


class WallClock:
    """The CPU's clock.  ``now`` is injectable and must not run backwards."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        started = self._now()
        result = call()
        return self._now() - started, result

    def prepare(self) -> None:
        """Nothing to wait for: the CPU works while we do."""

    def stamp(self) -> float:
        return self._now()

    def seconds(self, stamps: Sequence[float]) -> list[float]:
        return [stamp - stamps[0] for stamp in stamps]


class CudaClock:
    """Device events around the call and between its stages, synchronized outside the timed region.

    docs/hardware.md says what hardware has shown of it.
    """

    def __init__(self, device: Device) -> None:
        self._device = device.torch_device

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        self.prepare()
        started = self.stamp()
        result = call()
        ended = self.stamp()
        return self.seconds([started, ended])[1], result

    def prepare(self) -> None:
        import torch

        torch.cuda.synchronize(self._device)

    def stamp(self) -> Any:
        """An event on the stream on which the call launches its work at this moment."""
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, stamps: Sequence[Any]) -> list[float]:
        for stamp in stamps:
            stamp.synchronize()
        first = stamps[0]
        return [0.0, *(first.elapsed_time(stamp) / 1000.0 for stamp in stamps[1:])]


def clock_for(device: Device) -> StampClock:
    return CudaClock(device) if device.kind == "cuda" else WallClock()

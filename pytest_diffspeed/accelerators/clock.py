"""What a clock is.  It times one call, and is injected, so that tests script drift and spikes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

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

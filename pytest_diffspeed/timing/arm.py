"""An arm: something that can be called once and timed."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from ..errors import MeasurementError
from .clock import Clock


@dataclass
class Arm:
    """``call`` runs it once; ``running`` makes the context of a call, outside the timed region."""

    name: str
    call: Callable[[], object]
    running: Callable[[], AbstractContextManager[Any]] = nullcontext
    calls: int = 0
    last_output: object = field(default=None, repr=False)

    def timed_call(self, clock: Clock) -> float:
        """Call once; seconds.

        Python's garbage collector is kept out of the timed region.

        Raises:
            MeasurementError: the call raised, or the clock gave no positive finite number.
        """
        self.calls += 1
        collecting = gc.isenabled()
        with self.running():
            gc.disable()
            try:
                seconds, self.last_output = clock.time(self.call)
            except Exception as error:
                raise MeasurementError(
                    f"arm {self.name!r} raised in its call number {self.calls}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            finally:
                if collecting:
                    gc.enable()
        if not (math.isfinite(seconds) and seconds > 0.0):
            raise MeasurementError(
                f"arm {self.name!r}: the clock gave {seconds!r} seconds for call number "
                f"{self.calls}; a duration must be positive and finite"
            )
        return seconds


@dataclass(frozen=True)
class WarmUp:
    """``first_call_s`` contains compilation; ``steady_s`` is the last call's time."""

    first_call_s: float
    steady_s: float
    calls: int


def warm_up(arm: Arm, clock: Clock, *, at_most: int = 6, tolerance: float = 0.2) -> WarmUp:
    """Call until two calls in a row differ by at most ``tolerance``, or ``at_most`` times.

    A noisy machine may never get there; the calls that follow are paired, so what is left of the
    warm-up can cost pairs but cannot favour an arm.
    """
    first = previous = arm.timed_call(clock)
    calls = 1
    while calls < at_most:
        seconds = arm.timed_call(clock)
        calls += 1
        settled = abs(seconds - previous) <= tolerance * min(seconds, previous)
        previous = seconds
        if settled:
            break
    return WarmUp(first, previous, calls)


def check_same_outputs(baseline: Arm, candidate: Arm) -> None:
    """Refuse to compare arms whose outputs have other shapes: they did other work.

    Raises:
        MeasurementError: with both shapes.
    """
    shapes = [getattr(arm.last_output, "shape", None) for arm in (baseline, candidate)]
    if None not in shapes and tuple(shapes[0] or ()) != tuple(shapes[1] or ()):
        raise MeasurementError(
            f"arm {candidate.name!r} returns shape {tuple(shapes[1] or ())} and arm "
            f"{baseline.name!r} {tuple(shapes[0] or ())}: they do not do the same work"
        )

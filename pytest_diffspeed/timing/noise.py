"""The baseline against itself: what this machine makes of two equal calls."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..accelerators.clock import Clock
from .arm import TimedArm, warm_up
from .gc_paused import gc_paused

PAIRS = 20
"""Enough to tell a noise of 3 % from one of 5 %."""
LEAST_PAIRS = 6
"""Fewer give no interval for the order bias."""
SECONDS = 3.0
"""A twentieth of the automatic budget of one gate."""


def measure_noise(
    arm: TimedArm, clock: Clock, *, seconds: float = SECONDS, now: Callable[[], float] | None = None
) -> list[tuple[float, float]]:
    """Seconds ``(earlier, later)`` of pairs of calls of one arm, after warm-up.

    At least 6 pairs, and then as many as begin within ``seconds``, but no more than 20.

    Raises:
        MeasurementError: the arm raised, or its clock misbehaved.
    """
    now = now or time.perf_counter
    warm_up(arm, clock)
    pairs: list[tuple[float, float]] = []
    began = now()
    while len(pairs) < PAIRS and (len(pairs) < LEAST_PAIRS or now() - began < seconds):
        with gc_paused():
            pairs.append((arm.timed_call(clock), arm.timed_call(clock)))
    return pairs

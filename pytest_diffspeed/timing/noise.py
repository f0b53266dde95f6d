"""The baseline against itself: what this machine makes of two equal calls."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from ..accelerators.clock import Clock
from .arm import TimedArm, in_turn
from .gc_paused import gc_paused
from .warm_up import warm_up

PAIRS = 20
"""Enough to tell a noise of 3 % from one of 5 %."""
LEAST_PAIRS = 6
"""Enough to tell 3 % from 10 %.  The interval for the order bias takes one more."""
SECONDS = 3.0
"""A twentieth of the automatic budget of one gate."""


def measure_noise(
    arm: TimedArm,
    clock: Clock,
    *,
    beside: Sequence[TimedArm] = (),
    seed: int | str = 0,
    seconds: float = SECONDS,
    now: Callable[[], float] | None = None,
) -> list[tuple[float, float]]:
    """Seconds ``(earlier, later)`` of pairs of calls of one arm, after warm-up.

    At least 6 pairs, and then as many as begin within ``seconds``, but no more than 20.

    Args:
        arm: the one that is timed.
        clock: times one call.
        beside: arms that ``arm`` is to be compared with afterwards.  They are called as often, in
            random order: these calls warm an arm up, and one that got none of them would begin
            its pairs slower than ``arm``.
        seed: of that order.
        seconds: for all calls together.
        now: a clock for ``seconds``.

    Raises:
        MeasurementError: an arm raised, or its clock misbehaved.
    """
    now = now or time.perf_counter
    random_ = random.Random(f"{seed}/noise")
    arms = [arm, *beside]
    warm_up(arms, clock, seed=seed)
    pairs: list[tuple[float, float]] = []
    began = now()
    while len(pairs) < PAIRS and (len(pairs) < LEAST_PAIRS or now() - began < seconds):
        for one in random_.sample(arms, len(arms)):
            in_turn(one, len(pairs))
            with gc_paused():
                pair = one.timed_call(clock), one.timed_call(clock)
            if one is arm:
                pairs.append(pair)
    return pairs

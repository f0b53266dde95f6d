"""How an arm gets the seconds of one call from a clock: of the whole call, or of a stage of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..accelerators.clock import Clock


class Timed(NamedTuple):
    """One call: the seconds that count, the seconds of the whole call, and what it returned."""

    seconds: float
    call_s: float
    output: object


Timer = Callable[[Clock, Callable[[], object]], Timed]


def whole_call(clock: Clock, call: Callable[[], object]) -> Timed:
    seconds, output = clock.time(call)
    return Timed(seconds, seconds, output)

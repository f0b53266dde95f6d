"""Calls before the first pair: the same number of each arm, until what is left cannot decide."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..accelerators.clock import Clock
from .arm import TimedArm, in_turn

SETTLED = 0.2
"""An arm whose last two calls differ by more is still compiling, loading or allocating."""

LEVEL_CALLS = 3
"""An arm is level when none of so many last calls was its fastest so far.  Of equal calls that is
the case after eight on average; an arm whose calls still get faster goes on.  In simulation an arm
that begins 15 % slow, decaying over ten calls, is within 5 % of its end in 85 % of the cases when
three do, in 49 % with two."""

AHEAD = 10
"""An arm that goes on getting faster as it did in its last calls, for so many more calls, must not
carry the ratio across a threshold; then it need not be level.  What decays falls, in all, by about
as many of its last steps as it has calls to go."""

MOST_CALLS = 20
"""Of each arm.  Two arms that are level all along need more in 1 % of the cases."""


@dataclass(frozen=True)
class WarmUp:
    """How one arm warmed up; ``first_call_s`` contains compilation.

    ``steady_s`` is the median of its last three calls.  Both are seconds of what the arm's timer
    times; ``steady_call_s`` are those of the last call as a whole, which is what a budget has to
    pay.  ``is_level`` is false where the calls were still getting faster, or apart, at the end.
    """

    first_call_s: float
    steady_s: float
    calls: int
    steady_call_s: float
    is_level: bool = True


def warm_up(
    arms: Sequence[TimedArm],
    clock: Clock,
    *,
    seed: int | str = 0,
    is_clear: Callable[[Sequence[Sequence[float]]], bool] = lambda _: False,
    most_s: float = math.inf,
    most_calls: int = MOST_CALLS,
) -> list[WarmUp]:
    """Call all ``arms`` equally often, in random order, until each is level.

    Whatever an arm needs its first calls for then weighs on all arms alike, or is seen: a slow
    start that only one of them is given time for would count as a difference in speed.

    Args:
        arms: those that will be compared.
        clock: times one call.
        seed: of the order of the arms in each round.
        is_clear: told the seconds of each arm's calls, whether no arm has to be level.
        most_s: rounds end when their calls have taken so many seconds, but not before three.
        most_calls: of each arm.

    Raises:
        MeasurementError: an arm raised, or its clock misbehaved.
    """
    random_ = random.Random(f"{seed}/warm-up")
    seconds: list[list[float]] = [[] for _ in arms]
    spent_s = 0.0
    while True:
        for number in random_.sample(range(len(arms)), len(arms)):
            # The same inputs each time: whether an arm is level shows in calls that are alike.
            seconds[number].append(in_turn(arms[number], 0).timed_call(clock))
            spent_s += arms[number].last_call_s
        calls = len(seconds[0])
        if calls < LEVEL_CALLS:
            continue
        settled = all(map(is_settled, seconds))
        clear = settled and is_clear(seconds)
        if clear or (settled and all(map(is_level, seconds))):
            break
        if calls >= most_calls or spent_s >= most_s:
            break
    return [
        WarmUp(
            own[0],
            statistics.median(own[-LEVEL_CALLS:]),
            calls,
            arm.last_call_s,
            clear or (is_settled(own) and is_level(own)),
        )
        for arm, own in zip(arms, seconds, strict=True)
    ]


def is_settled(seconds: Sequence[float]) -> bool:
    """Whether the last two calls agree within ``SETTLED``."""
    before, last = seconds[-2:]
    return abs(last - before) <= SETTLED * min(last, before)


def is_level(seconds: Sequence[float]) -> bool:
    """Whether none of the last ``LEVEL_CALLS`` calls was faster than all before it."""
    return min(seconds[:-LEVEL_CALLS], default=math.inf) <= min(seconds[-LEVEL_CALLS:])


def is_far(baseline: Sequence[float], candidate: Sequence[float], min_ratio: float) -> bool:
    """Whether the ratio is further from ``min_ratio`` than ``AHEAD`` more steps of either arm.

    The step is the largest between neighbours of an arm's last three calls.
    """
    last = [statistics.median(own[-LEVEL_CALLS:]) for own in (baseline, candidate)]
    gap = abs(math.log(last[0] / last[1] / min_ratio))
    steps = [
        abs(math.log(own[at] / own[at - 1])) for own in (baseline, candidate) for at in (-1, -2)
    ]
    return gap > AHEAD * max(steps)

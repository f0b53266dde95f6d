"""Rounds: one timed call of each arm, next to each other, in random order.

With two arms a round is a pair.  With more, each comparison takes its pair from the same round, so
that the ratio to the baseline and the ratio to the stack before rest on the same calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .arm import TimedArm, in_turn
from .gc_paused import gc_paused

if TYPE_CHECKING:
    from ..accelerators.clock import Clock


TURNS = 5040
"""Turns are drawn from so many: each number of inputs up to ten divides them."""


@dataclass(frozen=True)
class Pair:
    """Seconds of one call of each of two arms, and which of the two ran first.

    ``dropped`` says why it does not count; ``None`` for a pair that does.  ``index`` counts both;
    ``instance`` is the number of the process instances that ran it, from 0.
    """

    index: int
    baseline_s: float
    candidate_s: float
    candidate_first: bool
    dropped: str | None = None
    instance: int = 0


@dataclass(frozen=True)
class Round:
    """Seconds by arm, in the order in which the arms ran; arms are numbered as they were given."""

    index: int
    instance: int
    seconds: Mapping[int, float]
    dropped: str | None

    def pair(self, baseline: int, candidate: int) -> Pair:
        order = list(self.seconds)
        return Pair(
            self.index,
            self.seconds[baseline],
            self.seconds[candidate],
            order.index(candidate) < order.index(baseline),
            self.dropped,
            self.instance,
        )


def random_orders(arms: int, seed: int | str) -> Iterator[tuple[int, ...]]:
    """Orders in which ``arms`` arms run, round after round, each drawn anew.

    Of any two arms each runs first with a probability of one half, *whatever ran before*.  That is
    what the gate's error rate rests on (docs/statistics.md).  Orders that are balanced over some
    rounds give the last of them away.
    """
    random_ = random.Random(seed)
    while True:
        yield tuple(random_.sample(range(arms), arms))


def measure_rounds(
    instances: Sequence[Sequence[TimedArm]],
    clock: Clock,
    *,
    seed: int,
    discard_warm_call: bool = False,
    before_round: Callable[[], str | None] = lambda: None,
    wanted: Callable[[], Collection[int]] | None = None,
) -> Iterator[Round]:
    """Time round after round, for as long as the caller asks.

    Arms with several inputs all take the same in a round, drawn anew each time: pairs are then
    draws from one distribution, as they would not be if inputs came in a fixed order.

    Args:
        instances: the arms, once for each process instance; instances take turns.
        clock: times one call.
        seed: of the order of the arms.
        discard_warm_call: before each timed call, call the same arm once off the clock, where an
            arm would otherwise find caches, clocks and memory as another arm left them.
        before_round: asked outside of what is timed; why the round that comes does not count, or
            ``None`` (see :mod:`pytest_diffspeed.timing.validity`).
        wanted: asked before each round which arms still run; all if left out.
    """
    orders = [
        random_orders(len(arms), seed if number == 0 else f"{seed}/{number}")
        for number, arms in enumerate(instances)
    ]
    inputs = random.Random(f"{seed}/inputs")
    index = 0
    while True:
        turn = index % len(instances)
        which = inputs.randrange(TURNS)
        running = set(range(len(instances[turn]))) if wanted is None else set(wanted())
        dropped = before_round()
        seconds: dict[int, float] = {}
        with gc_paused():  # so that no collection falls between the calls of a round
            for number in next(orders[turn]):
                if number in running:
                    arm = in_turn(instances[turn][number], which)
                    if discard_warm_call:
                        arm.untimed_call()
                    seconds[number] = arm.timed_call(clock)
        yield Round(index, turn, seconds, dropped)
        index += 1

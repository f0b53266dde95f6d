"""Rounds: one timed call of each arm, next to each other, in random balanced order.

With two arms a round is a pair.  With more, each comparison takes its pair from the same round, so
that the ratio to the baseline and the ratio to the stack before rest on the same calls.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .gc_paused import gc_paused

if TYPE_CHECKING:
    from ..accelerators.clock import Clock
    from .arm import TimedArm

BLOCK = 20
"""Rounds in a balanced block.  In blocks of two, the second order follows from the first, and a
disturbance with a period of four calls doubles to quadruples the error rates of the gate; from 20
on they keep what is promised (table in docs/statistics.md)."""


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


def balanced_orders(arms: int, seed: int | str) -> Iterator[tuple[int, ...]]:
    """Orders in which ``arms`` arms run, round after round.

    Of any two arms each runs before the other in half of each block of rounds: a block holds random
    orders and the reverse of each, shuffled.  A cost that hits whichever arm runs later then weighs
    on all alike, among any subset of them too.
    """
    random_ = random.Random(seed)
    numbers = list(range(arms))
    while True:
        some = [tuple(random_.sample(numbers, arms)) for _ in range(BLOCK // 2)]
        block = some + [order[::-1] for order in some]
        random_.shuffle(block)
        yield from block


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
        balanced_orders(len(arms), seed if number == 0 else f"{seed}/{number}")
        for number, arms in enumerate(instances)
    ]
    waiting = [next(order) for order in orders]
    index = 0
    while True:
        turn = index % len(instances)
        running = set(range(len(instances[turn]))) if wanted is None else set(wanted())
        dropped = before_round()
        seconds: dict[int, float] = {}
        with gc_paused():  # so that no collection falls between the calls of a round
            for number in waiting[turn]:
                if number in running:
                    arm = instances[turn][number]
                    if discard_warm_call:
                        arm.untimed_call()
                    seconds[number] = arm.timed_call(clock)
        yield Round(index, turn, seconds, dropped)
        index += 1
        if dropped is None:  # else the order goes again: those of the rounds that count balance
            waiting[turn] = next(orders[turn])

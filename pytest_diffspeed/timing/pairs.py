"""Pairs: one timed call of each of two arms, next to each other, in random balanced order."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .collector import collector_off

if TYPE_CHECKING:
    from .arm import Arm
    from .clock import Clock


@dataclass(frozen=True)
class Pair:
    """Seconds of one call of each arm, and which of the two ran first.

    ``dropped`` says why it does not count; ``None`` for a pair that does.  ``index`` counts both.
    """

    index: int
    baseline_s: float
    candidate_s: float
    candidate_first: bool
    dropped: str | None = None


BLOCK = 20
"""Pairs in a balanced block.  In blocks of two, the second order follows from the first, and a
disturbance with a period of four calls doubles to quadruples the error rates of the gate; from 20
on they keep what is promised (table in docs/statistics.md)."""


def balanced_orders(seed: int) -> Iterator[bool]:
    """Whether the candidate goes first: in half of each block of pairs, shuffled.

    A cost that hits whichever arm runs second then weighs on both arms alike.
    """
    shuffle = random.Random(seed)
    block = [True, False] * (BLOCK // 2)
    while True:
        shuffle.shuffle(block)
        yield from block


def measure_pairs(
    baseline: Arm,
    candidate: Arm,
    clock: Clock,
    *,
    seed: int,
    discard_warm_call: bool = False,
    before_pair: Callable[[], str | None] = lambda: None,
) -> Iterator[Pair]:
    """Time pair after pair, for as long as the caller asks.

    Args:
        baseline, candidate: the two arms.
        clock: times one call.
        seed: of the order of the arms.
        discard_warm_call: before each timed call, call the same arm once off the clock, where an
            arm would otherwise find caches, clocks and memory as the other arm left them.
        before_pair: asked outside of what is timed; why the pair that comes does not count, or
            ``None`` (see :mod:`pytest_diffspeed.timing.validity`).
    """

    def timed(arm: Arm) -> float:
        if discard_warm_call:
            arm.discarded_call()
        return arm.timed_call(clock)

    orders = balanced_orders(seed)
    candidate_first = next(orders)
    index = 0
    while True:
        dropped = before_pair()
        with collector_off():  # so that no collection falls between the two calls of a pair
            if candidate_first:
                candidate_s = timed(candidate)
                baseline_s = timed(baseline)
            else:
                baseline_s = timed(baseline)
                candidate_s = timed(candidate)
        yield Pair(index, baseline_s, candidate_s, candidate_first, dropped)
        index += 1
        if dropped is None:  # else the order goes again: those of the pairs that count balance
            candidate_first = next(orders)

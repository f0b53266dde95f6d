"""Pairs: one timed call of each of two arms, next to each other, in random balanced order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .arm import Arm
from .clock import Clock


@dataclass(frozen=True)
class Pair:
    """Seconds of one call of each arm, and which of the two ran first."""

    index: int
    baseline_s: float
    candidate_s: float
    candidate_first: bool


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


def measure_pairs(baseline: Arm, candidate: Arm, clock: Clock, *, seed: int) -> Iterator[Pair]:
    """Time pair after pair, for as long as the caller asks."""
    for index, candidate_first in enumerate(balanced_orders(seed)):
        if candidate_first:
            candidate_s = candidate.timed_call(clock)
            baseline_s = baseline.timed_call(clock)
        else:
            baseline_s = baseline.timed_call(clock)
            candidate_s = candidate.timed_call(clock)
        yield Pair(index, baseline_s, candidate_s, candidate_first)

"""Deals tests out to shards so that the slowest shard is as fast as it can easily be.

What tests share is an arm: a pipeline with a stack, built (and compiled) once in each shard that
has one of its tests.  So an arm stays together, unless the slowest shard gets faster by building it
once more elsewhere.  The same tests and seconds give the same shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class PlannedTest:
    """``seconds`` of its call; ``arm`` is what it shares with others, ``None`` where that is
    nothing; ``is_guess``: no record tells of it.
    """

    name: str
    seconds: float
    arm: str | None = None
    is_guess: bool = False


@dataclass
class PlannedShard:
    """``builds`` are seconds that building each arm takes, by arm."""

    builds: dict[str, float]
    tests: list[PlannedTest] = field(default_factory=list)

    @property
    def arms(self) -> list[str]:
        """Those that are built here, sorted."""
        return sorted({test.arm for test in self.tests if test.arm is not None})

    @property
    def build_s(self) -> float:
        return sum(self.builds.get(arm, 0.0) for arm in self.arms)

    @property
    def seconds(self) -> float:
        """Predicted: of all calls, and of what is built for them."""
        return sum(test.seconds for test in self.tests) + self.build_s


_Move: TypeAlias = tuple[float, float, int, int, list[PlannedTest]]
"""Seconds of the slower of two shards and of both, where from, where to, and what."""


def balance(
    tests: Sequence[PlannedTest], shards: int, builds: dict[str, float]
) -> list[PlannedShard]:
    """The shards, none of them empty; ``tests`` are at least as many as ``shards``.

    The longest arm first, each to the shard that has least to do; then whole arms, or the last
    tests of one, go from the slowest shard to another as long as that makes the slower of the two
    faster.
    """
    assert len(tests) >= shards > 0, "unreachable because the command refuses it"
    planned = [PlannedShard(builds) for _ in range(shards)]
    for _, group in sorted(_groups(tests, builds), key=lambda one: (-one[0], one[1][0].name)):
        min(planned, key=lambda shard: shard.seconds).tests += group
    while any(not shard.tests for shard in planned):
        crowded = (place for place, shard in enumerate(planned) if len(shard.tests) > 1)
        moves = (move for place in crowded for move in _moves(planned, place))
        _do(planned, min(moves, key=_cost))
    for _ in range(10 * len(tests)):
        slowest = max(range(shards), key=lambda place: planned[place].seconds)
        best = min(_moves(planned, slowest), default=None, key=_cost)
        if best is None or best[0] >= planned[slowest].seconds - _LEAST_GAIN_S:
            break
        _do(planned, best)
    return planned


_LEAST_GAIN_S = 1e-6
"""Less is the rounding of sums."""


def _groups(
    tests: Sequence[PlannedTest], builds: dict[str, float]
) -> Iterator[tuple[float, list[PlannedTest]]]:
    """The tests of each arm with their seconds; one without an arm is alone."""
    groups: dict[object, list[PlannedTest]] = {}
    for test in tests:
        groups.setdefault(test.arm or (test.name,), []).append(test)
    for group in groups.values():
        yield PlannedShard(builds, group).seconds, group


def _moves(planned: Sequence[PlannedShard], source: int) -> Iterator[_Move]:
    """What could go from one shard to another: of each arm the last test, the last two, … all."""
    old, loads = planned[source], [shard.seconds for shard in planned]
    for _, group in _groups(old.tests, old.builds):
        arm, moved_s = group[0].arm, 0.0
        build_s = old.builds.get(arm, 0.0) if arm is not None else 0.0
        for many in range(1, len(group) + 1):
            moved_s += group[-many].seconds
            if many == len(old.tests):
                continue
            left = loads[source] - moved_s - (build_s if many == len(group) else 0.0)
            for target, shard in enumerate(planned):
                if target != source:
                    is_there = arm is not None and arm in shard.arms
                    there = loads[target] + moved_s + (0.0 if is_there else build_s)
                    yield max(left, there), left + there, source, target, group[-many:]


def _cost(move: _Move) -> tuple[float, float, int, int, int]:
    """Among equals the first shards and the fewest tests, so that a plan is always the same."""
    return (*move[:4], len(move[4]))


def _do(planned: Sequence[PlannedShard], move: _Move) -> None:
    _, _, source, target, moved = move
    names = {test.name for test in moved}
    planned[source].tests = [test for test in planned[source].tests if test.name not in names]
    planned[target].tests += moved

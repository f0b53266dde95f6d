"""A speed index: one test's speed over commits, from comparisons of one commit with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..common.text import plural
from .series import Change, Point, Series
from .verdict import HIGHER

MOST_DROPS = 3
"""The largest are told: of many comparisons some look like a drop by chance."""

Curve: TypeAlias = tuple[str, str, str, str, str]
"""What an index is of: test, stack, unit, condition and kind of device."""


@dataclass(frozen=True)
class BaseComparison:
    """A commit against its base: ``ratio`` is base seconds by head seconds, over 1 is faster.

    ``low`` and ``high`` are ``None`` where the interval is open.  ``sessions`` stand behind it, and
    ``notes`` say what else they found different: weights, or inputs of the call.
    """

    base: str
    head: str
    subject: str | None
    ratio: float
    low: float | None
    high: float | None
    sessions: int = 1
    notes: tuple[str, ...] = ()

    @property
    def is_drop(self) -> bool:
        """Whether all of its interval says slower."""
        return self.high is not None and self.high < 1


@dataclass(frozen=True)
class IndexPoint(Point):
    """A commit.  ``value`` is its speed by that of the commit where the index is 1."""

    commit: str
    verdict: str = ""


@dataclass(frozen=True)
class SpeedIndex:
    """Commits that comparisons join, in the order of their times.

    ``unit`` is what a timed call is of, ``condition`` what was called (pipeline, steps, prompts),
    ``device_kind`` as ``cpu``; ``environments`` many took part.  Of equal code, ``by_chance``
    comparisons at most are expected to look like a drop.
    """

    test: str
    stack: str
    unit: str
    condition: str
    device_kind: str
    points: Sequence[IndexPoint]
    comparisons: Sequence[BaseComparison]
    environments: int
    by_chance: float

    @property
    def curve(self) -> Curve:
        """What it is the speed of; curves of one are several where no comparison joins them."""
        return self.test, self.stack, self.unit, self.condition, self.device_kind

    @property
    def drops(self) -> list[BaseComparison]:
        """Comparisons that are slower by more than their interval, the largest first."""
        return sorted((c for c in self.comparisons if c.is_drop), key=lambda c: c.ratio)

    def as_series(self) -> Series:
        """The index as reports draw series; its largest drops are the changes."""
        places = {point.commit: place for place, point in enumerate(self.points)}
        largest = sorted(self.drops[:MOST_DROPS], key=lambda drop: places[drop.head])
        before = [self.points[places[drop.base]].value for drop in largest]
        return Series(
            test=self.test,
            stack=self.stack,
            claim=f"per {self.unit}, of {plural(len(self.comparisons), 'comparison')} with a base "
            f"in {plural(self.environments, 'environment')}",
            figure="speed index",
            better=HIGHER,
            machine="",
            points=self.points,
            changes=[
                Change(places[drop.head], value, value * drop.ratio, drop.base, drop.head)
                for drop, value in zip(largest, before, strict=True)
            ],
            condition=self.condition,
        )

"""A series: one figure of one gate over commits, as history gives it and reports show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .verdict import HIGHER


@dataclass(frozen=True)
class Point:
    """One session.  ``at`` is the commit's time where there is one, else the session's (ISO 8601).

    ``low`` and ``high`` bound ``value`` where it was measured, and are ``None`` where it was
    counted.  ``dirty``: the tree had changes that nobody committed, so the point stands for no
    commit; it is shown, and no change and no anchor rests on it.  ``session`` is the name of its
    session in the history.
    """

    at: str
    commit: str | None
    subject: str | None
    value: float
    low: float | None
    high: float | None
    verdict: str
    dirty: bool = False
    session: str | None = None


@dataclass(frozen=True)
class Change:
    """A jump: from ``points[index]`` on the figure lies at another level.

    It came with a commit after ``after_commit`` and not after ``by_commit``; the two are neighbours
    in the series unless its noise leaves more places.
    """

    index: int
    before: float
    after: float
    after_commit: str | None
    by_commit: str | None


@dataclass(frozen=True)
class Drift:
    """Slow change against a fixed anchor, the level at the beginning of the series.

    ``is_shown`` says whether it is more than the noise of the series.
    """

    anchor: float
    now: float
    is_shown: bool
    sentence: str


@dataclass(frozen=True)
class Difference:
    """One thing that two environments do not share, as text; ``None``: it is not there."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Series:
    """``figure`` names what ``Point.value`` is, as ``ratio`` or ``breaks``; ``better`` is
    ``"higher"`` or ``"lower"``; ``machine`` is the digest of the environment that all points share,
    ``machine_name`` its device, and ``condition`` what was called: pipeline, steps, prompts.
    ``is_counted``: without noise, so that every difference between neighbours is a change.
    """

    test: str
    stack: str
    claim: str
    figure: str
    better: str
    machine: str
    points: Sequence[Point]
    changes: Sequence[Change] = ()
    drift: Drift | None = None
    machine_name: str = ""
    condition: str = ""
    is_counted: bool = False

    @property
    def is_always_zero(self) -> bool:
        """Whether it is a count that was nowhere found."""
        return self.is_counted and not any(point.value for point in self.points)

    def goes_on_in(self, other: Series) -> bool:
        """Whether the other one is the same figure in another environment."""
        one, two = (
            (each.test, each.stack, each.claim, each.figure, each.condition)
            for each in (self, other)
        )
        return one == two and self.machine != other.machine

    def before(self, change: Change) -> Point:
        """The last point of the level that a change left; of a clean tree, as all changes are."""
        return next(point for point in reversed(self.points[: change.index]) if not point.dirty)

    def is_worse(self, change: Change) -> bool:
        """Whether a change of it was for the worse."""
        return (change.after > change.before) != (self.better == HIGHER)


def is_part(figure: str, of: str) -> bool:
    """Whether a figure is a part of another one: ``GPU flops.b16`` of ``GPU flops``, and ``GPU
    kernels of unet`` of ``GPU kernels``.
    """
    return figure.startswith((f"{of}.", f"{of} of "))

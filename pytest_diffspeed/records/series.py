"""A series: one figure of one gate over commits, as history gives it and reports show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """One session.  ``at`` is the commit's time where there is one, else the session's (ISO 8601).

    ``low`` and ``high`` bound ``value`` where it was measured, and are ``None`` where it was
    counted.  ``dirty``: the tree had changes that nobody committed, so the point stands for no
    commit; it is shown, and no change and no anchor rests on it.
    """

    at: str
    commit: str | None
    subject: str | None
    value: float
    low: float | None
    high: float | None
    verdict: str
    dirty: bool = False


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
class Series:
    """``figure`` names what ``Point.value`` is, as ``ratio`` or ``breaks``; ``better`` is
    ``"higher"`` or ``"lower"``; ``machine`` is the digest of the environment that all points share,
    ``machine_name`` its device, and ``condition`` what was called: pipeline, steps, prompts.
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

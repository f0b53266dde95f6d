"""All that a history knows of one test, as it is read and as a site shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .series import Difference, Series
from .speed_index import SpeedIndex


@dataclass(frozen=True)
class DrawnPictures:
    """The pictures of one image gate in one session; ``figures`` are the gate's.

    ``is_newest``: no later session of the history names the same files, so they may still be those
    that this one drew.
    """

    session: str
    at: str
    commit: str | None
    subject: str | None
    stack: str
    claim: str
    verdict: str
    figures: Mapping[str, Any]
    files: Sequence[str]
    is_newest: bool


@dataclass(frozen=True)
class HistoryOfTest:
    """One test in all of its stacks and environments.

    ``series`` stand as they go on in time; ``differing`` says for the place of one that goes on
    from the one before it what differs between their environments.  ``gates`` holds the figures of
    the gates on both sides of each change of a count, by session, stack and claim.
    """

    test: str
    series: Sequence[Series]
    indexes: Sequence[SpeedIndex] = ()
    differing: Mapping[int, Sequence[Difference]] = field(default_factory=dict)
    gates: Mapping[tuple[str, str, str], Mapping[str, Any]] = field(default_factory=dict)
    drawn: Sequence[DrawnPictures] = ()


@dataclass(frozen=True)
class HistorySize:
    """``first_at`` and ``last_at`` are of the sessions' commits where there are such (ISO 8601)."""

    sessions: int
    points: int
    commits: int
    first_at: str
    last_at: str

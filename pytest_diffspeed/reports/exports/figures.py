"""The figures of a session that other tools may keep: ratios, counts and similarity.

Milliseconds only where they are asked for: those of two machines, or of one machine on two days,
must not be compared, and whatever reads an export will do just that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ...records.devices import Places
from ...records.older import metrics_of
from ...records.reader import RecordedSession
from ...records.verdict import METRIC_KINDS, SECONDS, GateResult

KINDS = METRIC_KINDS


@dataclass(frozen=True)
class ExportedFigure:
    """One number of one gate.  ``name`` is short and the same in all sessions, as ``breaks``.

    ``low`` and ``high`` bound ``value`` where it was measured and they are finite.  ``better`` is
    ``"higher"`` or ``"lower"``; ``unit`` is for people.  ``where`` names device and shard where
    several sessions are exported and the test alone does not tell one figure from another; it is of
    the session that has this ``place`` among them.
    """

    test: str
    stack: str
    claim: str
    name: str
    value: float
    low: float | None
    high: float | None
    unit: str
    better: str
    kind: str
    verdict: str
    where: str = ""
    place: int = 0

    @property
    def gate(self) -> str:
        """Test, stack and claim in one line: what the figure belongs to."""
        return gate_name(self.test, self.stack, self.claim, self.where)


def gate_name(test: str, stack: str, claim: str, where: str = "") -> str:
    """What exports call a gate, the same in all sessions."""
    return one_line(f"{test} ({stack}){f' on {where}' if where else ''}: {claim}")


def one_line(text: str) -> str:
    """``text`` without line breaks and other control characters, which end names in other tools."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(shown.split())


def figures_of(
    session: RecordedSession, *, milliseconds: bool = False
) -> tuple[ExportedFigure, ...]:
    """All figures that a session may be exported with, in the order of its gates."""
    places = Places(session)
    found = (
        replace(figure, where=places.of(part, figure.test), place=place)
        for place, part in enumerate(session.sessions)
        for gate in part.latest
        for figure in figures_of_result(gate.result)
    )
    return tuple(figure for figure in found if milliseconds or figure.kind != SECONDS)


def figures_of_result(result: GateResult) -> Iterator[ExportedFigure]:
    """The figures of one gate, durations too; none where it counted and measured nothing."""
    for metric in metrics_of(result):
        if metric.name is None or not is_number(metric.value):
            continue
        low, high = (_end(end) for end in (metric.low, metric.high))
        yield ExportedFigure(
            result.test,
            result.stack,
            result.claim,
            one_line(metric.name),
            float(metric.value or 0),
            low,
            high,
            one_line(metric.unit),
            metric.better,
            metric.kind,
            str(result.verdict),
        )


def _end(value: object) -> float | None:
    """One end of an interval; ``None`` where it is open."""
    return float(value) if is_number(value) else None  # type: ignore[arg-type]


def is_number(value: object) -> bool:
    """Whether another tool can read it as one: finite, and neither true nor false."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no double holds
        return False


def without_figures(session: RecordedSession, figures: Iterable[ExportedFigure]) -> tuple[str, ...]:
    """Gates that an export leaves out, in one line each: nothing was counted or measured there."""
    have = {(f.place, f.test, f.stack, f.claim) for f in figures}
    places = Places(session)
    return tuple(
        f"{r.verdict} {gate_name(r.test, r.stack, r.claim, places.of(part, r.test))}"
        for place, part in enumerate(session.sessions)
        for r in (gate.result for gate in part.latest)
        if (place, r.test, r.stack, r.claim) not in have
    )

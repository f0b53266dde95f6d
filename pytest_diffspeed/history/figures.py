"""What of a gate is worth following over commits: ratios, counts and similarity, never seconds.

Seconds of two environments, or of two runs in two moments, say nothing about a commit; a ratio of
paired calls does.  The pairs themselves stay in the records.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..records.older import metrics_of
from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import HIGHER, Metric


@dataclass(frozen=True)
class FollowedFigure:
    """One figure of one gate.  ``is_counted``: without noise, so that every difference is one."""

    test: str
    stack: str
    claim: str
    figure: str
    better: str
    is_counted: bool
    value: float
    low: float | None
    high: float | None
    verdict: str
    source: str | None = None
    """The pipeline source; ``None``: that of the session."""
    counted_under: Mapping[str, str] | None = None
    """All that the figure depends on beside the code of this tree, where that is not the session's
    environment (with its device, threads and driver) and base."""


def figures_of(session: RecordedSession) -> list[FollowedFigure]:
    """The figures of a session, one for each test, claim and name: of a gate that ran again the
    last.
    """
    found: dict[tuple[str, str, str, str], FollowedFigure] = {}
    for gate in session.gates:
        for metric in _followed(gate):
            number, result = finite_number(metric.value), gate.result
            if number is not None:
                name = str(metric.series)
                found[result.test, result.stack, result.claim, name] = FollowedFigure(
                    test=result.test,
                    stack=result.stack,
                    claim=result.claim,
                    figure=name,
                    better=metric.better,
                    is_counted=metric.is_counted,
                    value=number,
                    low=finite_number(metric.low),
                    high=finite_number(metric.high),
                    verdict=str(result.verdict),
                    source=result.source,
                    counted_under=counted_under(result.figures) if metric.is_counted else None,
                )
    for row in session.ladder:
        for figure in _of_ladder(row):
            found[figure.test, figure.stack, figure.claim, figure.figure] = figure
    return list(found.values())


def _followed(gate: RecordedGate) -> Iterator[Metric]:
    result = gate.result
    # A FAIL that is remembered repeats the figures of the session that measured them.
    if not result.verdict.reached or "remembered_from" in result.figures:
        return
    yield from (metric for metric in metrics_of(result) if metric.series is not None)


def counted_under(figures: Mapping[str, Any]) -> dict[str, str] | None:
    """What a gate's counts depend on, where the gate says it."""
    found = figures.get("counted_under")
    if not isinstance(found, Mapping) or not found:
        return None
    return {str(name): str(value) for name, value in found.items()}


def _of_ladder(row: Mapping[str, Any]) -> Iterator[FollowedFigure]:
    """A row of the ladder has no test of its own: the ladder is one.

    A call that is composed of its components' figures is a series of its own.
    """
    what = "composed call" if isinstance(row.get("composed"), Mapping) else "call"
    for name, over in (("over_baseline", "fp32"), ("over_previous", row.get("previous"))):
        measured = row.get(name)
        if not isinstance(measured, Mapping):
            continue
        ratio = finite_number(measured.get("ratio"))
        if ratio is not None:
            yield FollowedFigure(
                test="ladder",
                stack=str(row["stack"]),
                claim=f"ladder over {over} per {what}",
                figure="ratio",
                better=HIGHER,
                is_counted=False,
                value=ratio,
                low=finite_number(measured.get("low")),
                high=finite_number(measured.get("high")),
                verdict=str(measured.get("verdict", "")),
                source=row["source"] if isinstance(row.get("source"), str) else None,
            )


def finite_number(value: object) -> float | None:
    """A finite number; anything else that a hostile file may hold there is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None

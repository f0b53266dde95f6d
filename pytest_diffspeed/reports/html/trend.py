"""What changed since the last run, above everything else: runs of this suite, and each gate's line.

It is read from the history's series of this session's environment; a session without a store, or
one that is the first of its suite, has none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...common.text import number as written
from ...common.text import plural
from ...records.older import metrics_of
from ...records.series import Point, Series
from ..loose import number
from .axes import VERDICTS, severity
from .gates import GateView
from .text import name

RUNS = 12
"""Points in a line: what is seen at one glance."""
STRIP = 5
"""Sessions before this one of which the verdicts are counted."""
OPEN_ROWS = 6
"""Gates that are shown unfolded; those that changed come first."""
MOST_ROWS = 60
WIDTH, HEIGHT = 120, 26
"""Of a line, in its own units."""
_ROOM = 4
INDEX = "speed index"


@dataclass(frozen=True)
class Dot:
    """One run in a line."""

    x: float
    y: float
    verdict: str


@dataclass(frozen=True)
class TrendRow:
    """A gate, or a speed index where ``gate`` is ``None``, over the last runs.

    ``line`` is a path of SVG, ``dots`` its points, ``summary`` both in words; ``turned`` says that
    its verdict is another one than in the run before.
    """

    gate: GateView | None
    title: str
    test: str
    line: str
    dots: tuple[Dot, ...]
    before: str
    now: str
    change: str
    turned: bool
    summary: str


@dataclass(frozen=True)
class PastRun:
    """One session, as its points tell it: gates by verdict, worst first."""

    at: str
    commit: str
    counts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Trend:
    """``sentence`` says what changed since the run ``since``; ``left_out`` rows are not shown."""

    sentence: str
    since: str
    runs: tuple[PastRun, ...]
    rows: tuple[TrendRow, ...]
    left_out: int

    @property
    def opened(self) -> tuple[TrendRow, ...]:
        return self.rows[:OPEN_ROWS]

    @property
    def folded(self) -> tuple[TrendRow, ...]:
        return self.rows[OPEN_ROWS:]


def trend(gates: Sequence[GateView], series: Sequence[Series]) -> Trend | None:
    """``None`` where no gate of the session has a run before this one."""
    known: dict[tuple[str, str, str], list[Series]] = {}
    for one in series:
        known.setdefault((one.test, one.claim, one.figure), []).append(one)
    of_gates: list[tuple[GateView, Sequence[Point]]] = []
    for gate in gates:
        points = _points(gate, known)
        if len(points) > 1:
            of_gates.append((gate, points))
    if not of_gates:
        return None
    rows = [_row(points, gate) for gate, points in of_gates]
    rows += [
        _row(one.points[-RUNS:], None, one)
        for one in series
        if one.figure == INDEX and len(one.points) > 1
    ]
    rows.sort(key=lambda row: (not row.turned, not row.change, row.gate is not None))
    before = max((points[-2] for _, points in of_gates), key=lambda point: point.at)
    return Trend(
        sentence=_sentence(of_gates, len(gates)),
        since=_of_run(before),
        runs=_runs(of_gates),
        rows=tuple(rows[:MOST_ROWS]),
        left_out=max(0, len(rows) - MOST_ROWS),
    )


def _points(gate: GateView, known: Mapping[tuple[str, str, str], list[Series]]) -> Sequence[Point]:
    """The last runs of a gate's own figure, this session's the last of them."""
    result = gate.result
    metric = next((one for one in metrics_of(result) if one.series is not None), None)
    value = None if metric is None else number(metric.value)
    if metric is None or value is None:
        return ()
    several = known.get((result.test, result.claim, str(metric.series)), [])
    # A store may hold later sessions than the one whose records are reported.
    for one in several:
        ours = [
            place
            for place, point in enumerate(one.points)
            if point.value == value and point.verdict == gate.verdict
        ]
        if ours:
            return one.points[: ours[-1] + 1][-RUNS:]
    if not several:
        return ()
    newest = max(several, key=lambda one: one.points[-1].at if one.points else "")
    here = Point("", None, None, value, metric.low, metric.high, gate.verdict)
    return [*newest.points[1 - RUNS :], here]


def _row(points: Sequence[Point], gate: GateView | None, index: Series | None = None) -> TrendRow:
    before, now = points[-2], points[-1]
    values = [point.value for point in points]
    moved = "" if before.value == now.value else _change(before.value, now.value)
    title = gate.result.claim if gate is not None else f"{INDEX} {index.claim if index else ''}"
    test = gate.result.test if gate is not None else (index.test if index else "")
    dots = _placed(points)
    return TrendRow(
        gate=gate,
        title=name(title),
        test=test,
        line="M" + "L".join(f"{dot.x:g} {dot.y:g}" for dot in dots),
        dots=tuple(dots),
        before=written(before.value),
        now=written(now.value),
        change=moved,
        turned=gate is not None and before.verdict != now.verdict,
        summary=f"the last {len(points)} runs: {', '.join(map(written, values))}"
        + (f"; {before.verdict}, then {now.verdict}" if before.verdict != now.verdict else ""),
    )


def _change(before: float, now: float) -> str:
    """In per cent, or as it is where that says nothing."""
    if before == 0 or not math.isfinite(now / before):
        return f"{'+' if now > before else '-'}{written(abs(now - before))}"
    share = 100 * (now / before - 1)
    return f"{share:+.3g} %"


def _placed(points: Sequence[Point]) -> list[Dot]:
    values = [point.value for point in points]
    low, high = min(values), max(values)
    across = (WIDTH - 2 * _ROOM) / max(1, len(points) - 1)
    up = (HEIGHT - 2 * _ROOM) / (high - low) if high > low else 0.0
    flat = HEIGHT / 2 - _ROOM
    return [
        Dot(
            round(_ROOM + place * across, 1),
            round(HEIGHT - _ROOM - ((point.value - low) * up if high > low else flat), 1),
            point.verdict if point.verdict in VERDICTS else "",
        )
        for place, point in enumerate(points)
    ]


def _sentence(of_gates: Sequence[tuple[GateView, Sequence[Point]]], many: int) -> str:
    turned = Counter(
        points[-1].verdict for _, points in of_gates if points[-2].verdict != points[-1].verdict
    )
    parts = [f"{plural(count, 'gate')} turned {verdict}" for verdict, count in _worst_first(turned)]
    begun = many - len(of_gates)
    told = ", ".join(parts) if parts else "no verdict changed"
    return f"{told}; {plural(begun, 'gate')} without a run before" if begun else told


def _runs(of_gates: Sequence[tuple[GateView, Sequence[Point]]]) -> tuple[PastRun, ...]:
    """The last sessions before this one that any gate was in, and this one."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for _, points in of_gates:
        for point in points[:-1]:
            found.setdefault((point.at, point.commit or ""), Counter())[point.verdict] += 1
    runs = [
        PastRun(at[:16].replace("T", " "), commit[:9], tuple(_worst_first(found[at, commit])))
        for at, commit in sorted(found)[-STRIP:]
    ]
    now = Counter(points[-1].verdict for _, points in of_gates)
    return (*runs, PastRun("this one", "", tuple(_worst_first(now))))


def _worst_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(
        counts.items(), key=lambda one: severity(one[0]) if one[0] in VERDICTS else len(VERDICTS)
    )


def _of_run(point: Point) -> str:
    parts = (point.at[:16].replace("T", " "), (point.commit or "")[:9], point.subject or "")
    return " ".join(filter(None, parts))

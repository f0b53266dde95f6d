"""The page: records in, one self-contained HTML file out, within its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...records.devices import Places
from ...records.reader import RecordedSession
from ...records.series import Series
from ..glossary import TERMS
from ..loose import words
from .about import about, rerun_command
from .assets import assets
from .axes import VERDICTS, Axis
from .devices import device_table, session_views
from .environment import as_json, environment
from .gallery import Budget, Gallery, galleries, left_out_sentence
from .gates import GateView, gate_view
from .history import history
from .ladder import ladder, ladder_of_all, ratio_chart
from .overview import overview
from .trend import trend

LIMIT_BYTES = 4_900_000
"""Of the whole file."""
GATES_BYTES = 2_600_000
"""Of what is told of gates, their pictures aside: 2 000 gates with ordinary findings fit."""
ROWS_BYTES = 800_000
"""Of the table of tests."""
SHORT_BYTES = 300_000
"""Of one line for each gate that did not fit above."""
PROOFS_BYTES = 100_000
MOST_AGAINST_BASE = 100
"""Rows of the table against the base; each stands below in full."""
OPEN_GATES = 12
"""Gates that fail and are unfolded from the start."""


def render(session: RecordedSession, rootdir: Path, series: Sequence[Series] = ()) -> str:
    """The whole file.

    Args:
        session: what was recorded, of one session or of several as one.
        rootdir: the folder that paths of pictures start from.
        series: history of figures of these tests.
    """
    templates = environment("reports.html")
    gates = _gate_views(session)
    seen = overview(session, gates)
    climbed = ladder(ladder_of_all(session))
    told = history(series)
    macros: Any = templates.get_template("macros.html").module
    room = Budget(GATES_BYTES)
    shorts, shortened = Budget(SHORT_BYTES), set[str]()
    opened = iter(range(OPEN_GATES))
    blocks: dict[str, Markup] = {}
    data: dict[str, Any] = {
        "ladder": climbed.chart,
        "ratios": ratio_chart(gates),
        "history": {f"series-{place}": one.chart for place, one in enumerate(told.told)},
        "pairs": {},
    }
    for gate in gates:
        is_open = gate.verdict in ("FAIL", "INCONCLUSIVE") and next(opened, None) is not None
        of_it = session.sessions[gate.place].about
        again = rerun_command(of_it, gate.result.test) if gate.result.blocking else ""
        block = macros.gate(gate, is_open, again)
        plot = None if gate.plot is None else gate.plot.data
        if room.take(_size(block) + len(as_json(plot))):
            blocks[gate.id] = block
            data["pairs"] |= {} if plot is None else {gate.id: plot}
        elif shorts.take(_size(short := macros.short(gate))):
            shortened.add(gate.id)
            blocks[gate.id] = short
    rows, rows_left_out = _that_fit(seen.rows, macros.test_row, Budget(ROWS_BYTES))
    proofs, _ = _that_fit(session.proofs, macros.proof, Budget(PROOFS_BYTES))
    page = templates.get_template("report.html")
    devices, sessions = device_table(session, gates), session_views(session)

    def whole(shown: tuple[Gallery, ...], left_out: int) -> str:
        return page.render(
            session=session,
            about=about(session.about, session.pipelines, is_ladder=bool(session.ladder)),
            devices=devices,
            sessions=sessions,
            overview=seen,
            blocks=blocks,
            groups=_groups(seen.axes, gates),
            rows=rows,
            rows_left_out=rows_left_out,
            gates_shortened=len(shortened),
            gates_left_out=len(gates) - len(blocks),
            proofs=proofs,
            against_base=[gate for gate in gates if gate.against_base][:MOST_AGAINST_BASE],
            ladder=climbed,
            history=told,
            trend=trend(gates, series),
            galleries=shown,
            pictures_left_out=left_out_sentence(left_out),
            assets=assets(),
            data=Markup(as_json(data)),
            verdicts=VERDICTS,
            terms=TERMS,
        )

    images = {
        (place, str(test["test"])): words(test.get("images"))
        for place, part in enumerate(session.sessions)
        for test in part.tests
    }
    rootdirs = [part.pictures_from or rootdir for part in session.sessions]
    left = Budget(LIMIT_BYTES - _size(whole((), 0)))
    return whole(*galleries(gates, seen.rows, images, rootdirs, left))


def _gate_views(session: RecordedSession) -> list[GateView]:
    """Of all sessions, failures first."""
    places = Places(session)
    found = (
        (gate, place, part) for place, part in enumerate(session.sessions) for gate in part.gates
    )
    views = [
        gate_view(gate, number, places.of(part, gate.result.test), place)
        for number, (gate, place, part) in enumerate(found, start=1)
    ]
    return sorted(views, key=lambda gate: gate.order)


def _that_fit(
    rows: Sequence[Any], block: Callable[[Any], Markup], room: Budget
) -> tuple[list[Markup], int]:
    blocks = []
    for row in rows:
        made = block(row)
        if not room.take(_size(made)):
            break
        blocks.append(made)
    return blocks, len(rows) - len(blocks)


def _groups(
    axes: Sequence[Axis], gates: Sequence[GateView]
) -> list[tuple[Axis, list[tuple[str, list[GateView]]]]]:
    """By axis, then by verdict, worst first."""
    return [
        (
            axis,
            [
                (verdict, of_it)
                for verdict in VERDICTS
                if (of_it := [g for g in gates if g.axis is axis and g.verdict == verdict])
            ],
        )
        for axis in axes
    ]


def _size(written: str) -> int:
    return len(written.encode("utf-8"))

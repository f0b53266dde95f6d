"""Several sessions on a page: a table with a column per device, and what each session was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...records.devices import Places
from ...records.reader import RecordedSession
from ...records.verdict import VerdictKind
from ..device_matrix import GateRun, MatrixRow, device_matrix
from .about import About, about
from .gates import GateView

MOST_ROWS = 400
"""Of the table; each gate stands below by itself."""


@dataclass(frozen=True)
class Cell:
    """One run of a gate: its sign, what it found, and where it stands on the page."""

    verdict: str
    found: str
    link: str


@dataclass(frozen=True)
class DeviceRow:
    """``cells`` are in the order of the devices, each with its runs."""

    test: str
    stack: str
    claim: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class DeviceTable:
    """``rows`` is empty where there is one device."""

    devices: tuple[str, ...]
    rows: tuple[DeviceRow, ...]
    left_out: int


@dataclass(frozen=True)
class SessionView:
    """One of several sessions: ``name`` as ``shard 1/3``, and what it rests on."""

    name: str
    device: str
    file: str
    gates: int
    about: About


def device_table(session: RecordedSession, gates: Sequence[GateView]) -> DeviceTable:
    """Gates of one name beside each other; empty where all ran on one device."""
    matrix = device_matrix(session)
    if len(matrix.devices) < 2:
        return DeviceTable(matrix.devices, (), 0)
    links = {id(view.result): view.id for view in gates}
    rows = tuple(_row(row, links) for row in matrix.rows[:MOST_ROWS])
    return DeviceTable(matrix.devices, rows, len(matrix.rows) - len(rows))


def session_views(session: RecordedSession) -> tuple[SessionView, ...]:
    """Each of several sessions; empty where there is one, which the page is about."""
    places = Places(session)
    return tuple(
        SessionView(
            places.session(part),
            places.device(part),
            part.path.name,
            len(part.latest),
            about(part.about, part.pipelines, is_ladder=bool(part.ladder)),
        )
        for part in session.parts
    )


def _row(row: MatrixRow, links: dict[int, str]) -> DeviceRow:
    cells = tuple(tuple(_cell(run, links) for run in runs) for runs in row.cells)
    return DeviceRow(row.test, row.stack, row.claim, cells)


def _cell(run: GateRun, links: dict[int, str]) -> Cell:
    link = "" if run.gate is None else links.get(id(run.gate.result), "")
    found = run.found
    if run.is_expected:
        found = f"{found} (xfailed)" if found else "xfailed"
    if not found and run.verdict is not VerdictKind.PASS:
        found = str(run.verdict)
    return Cell(str(run.verdict), found, link)

"""The gates of several devices beside each other: a row a gate, a column a device."""

from __future__ import annotations

from dataclasses import dataclass

from ..records.devices import columns
from ..records.reader import RecordedGate, RecordedSession
from ..records.verdict import VerdictKind
from .brief import brief_of_gate


@dataclass(frozen=True)
class GateRun:
    """One run of a gate: in a cell there are several where several sessions ran it.

    ``gate`` is ``None`` where it was asked for and did not run, which ``found`` then says;
    ``is_expected``: it failed a test that was expected to fail.
    """

    gate: RecordedGate | None
    verdict: VerdictKind
    found: str
    is_expected: bool = False


@dataclass(frozen=True)
class MatrixRow:
    """``cells`` are in the order of the devices; an empty one: it was not asked there."""

    test: str
    stack: str
    claim: str
    cells: tuple[tuple[GateRun, ...], ...]


@dataclass(frozen=True)
class DeviceMatrix:
    devices: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


def device_matrix(session: RecordedSession) -> DeviceMatrix:
    """All gates, those that differ in their verdicts first, then in the order of the records."""
    found = columns(session)
    expected = {id(gate) for gate in session.expected_failures}
    cells: dict[tuple[str, str], list[list[GateRun]]] = {}
    stacks: dict[str, str] = {}
    for place, column in enumerate(found):
        for part in column.sessions:
            runs = [
                (
                    gate.result.test,
                    gate.result.claim,
                    GateRun(
                        gate, gate.result.verdict, brief_of_gate(gate)[0], id(gate) in expected
                    ),
                )
                for gate in part.latest
            ]
            stacks |= {gate.result.test: gate.result.stack for gate in part.latest}
            runs += [
                (
                    str(line["test"]),
                    str(line["claim"]),
                    GateRun(None, VerdictKind.INCONCLUSIVE, "did not run"),
                )
                for line in part.not_run
            ]
            for test, claim, run in runs:
                row = cells.setdefault((test, claim), [[] for _ in found])
                row[place].append(run)
    rows = [
        MatrixRow(test, stacks.get(test, ""), claim, tuple(tuple(cell) for cell in of_devices))
        for (test, claim), of_devices in cells.items()
    ]
    return DeviceMatrix(tuple(column.title for column in found), tuple(sorted(rows, key=_order)))


def _order(row: MatrixRow) -> tuple[bool, bool]:
    """Red ones first, then those that are not the same everywhere."""
    runs = [run for cell in row.cells for run in cell]
    red = any(
        run.verdict in (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE) and not run.is_expected
        for run in runs
    )
    return not red, len({run.verdict for run in runs}) == 1

"""The tests of a session as one table: a row a test, a cell an axis, failures first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...common.text import plural
from ...records.devices import Places
from ...records.reader import RecordedSession
from ..causes import cause_of_test
from ..loose import count, number, word
from ..units import seconds
from .axes import AXES, FAILED, Axis, severity, worst
from .gates import GateView

_XFAILED = "it fails as it was expected to (xfail)"
_BODY = "the body of the test did not end"


@dataclass(frozen=True)
class Failure:
    """Why a test failed where no gate says so: ``message`` is the record's own sentence, ``place``
    and ``source`` the line of code where there is one, ``step`` what to do next.
    """

    kind: str
    message: str
    place: str
    source: str
    step: str


@dataclass(frozen=True)
class TestRow:
    """``cells`` holds the gates of each axis in use, in the order of reliability.

    ``failures`` are why it failed where no gate says so, one for each phase; ``note`` is what else
    is to be known of its end, and ``why_not_run`` why the gates ``not_run`` were not asked, where
    that is not a failure above.
    """

    test: str
    where: str
    stack: str
    verdict: str
    took: str
    cells: tuple[tuple[GateView, ...], ...]
    not_run: tuple[str, ...]
    failures: tuple[Failure, ...] = ()
    note: str = ""
    why_not_run: str = ""
    on: str = ""
    """Device and shard, where the test alone does not tell it from others."""
    place: int = 0
    """Of its session among all."""


@dataclass(frozen=True)
class Overview:
    """``counts`` are gates by verdict; ``without_gates`` are tests that asked for none.

    ``unchecked`` gates, which could not be checked, are INCONCLUSIVE among ``counts``.  So are, by
    their verdicts, ``xfailed`` ones, which failed a test that was expected to fail, and which
    ``unchecked`` leaves out.
    ``failed_otherwise`` are tests that failed and have no gate that says so: their set-up, a proof,
    their body.
    """

    axes: tuple[Axis, ...]
    rows: tuple[TestRow, ...]
    counts: Mapping[str, int]
    by_axis: tuple[tuple[Axis, Mapping[str, int]], ...]
    not_run: int
    unchecked: int
    failed_otherwise: int
    xfailed: Mapping[str, int]
    without_gates: int
    unfinished: int

    @property
    def headline(self) -> str:
        """What happened, in one line."""
        return "".join(words for words, _ in self.headline_parts)

    @property
    def headline_parts(self) -> tuple[tuple[str, str | None], ...]:
        """Its words, and the verdict whose colour they have."""
        total = sum(self.counts.values())
        failed = self.counts["FAIL"] - self.xfailed["FAIL"]
        undecided = self.counts["INCONCLUSIVE"] - self.xfailed["INCONCLUSIVE"] - self.unchecked
        bad = [
            (f"{many} {words}", verdict)
            for many, words, verdict in (
                (failed, "FAIL", "FAIL"),
                (undecided, "INCONCLUSIVE", "INCONCLUSIVE"),
                (self.unchecked, "not checked", FAILED),
            )
            if many
        ]
        message: list[tuple[str, str | None]] = []
        if bad:
            for words in bad:
                message += [*([(" and ", None)] if message else []), words]
            message.append((f" of {plural(total, 'gate')}", None))
        elif self.counts["PASS"]:
            message.append((f"{plural(self.counts['PASS'], 'gate')} PASS", "PASS"))
            if rest := self.counts["NOT_APPLICABLE"]:
                message.append((f", {rest} NOT_APPLICABLE", None))
        if xfailed := sum(self.xfailed.values()):
            message.append((f"{', ' if message else ''}{xfailed} xfailed", None))
        if self.failed_otherwise:
            otherwise = f"{plural(self.failed_otherwise, 'test')} failed otherwise"
            message += [*([(", ", None)] if message else []), (otherwise, FAILED)]
        if self.not_run:
            message.append(
                (f"{', ' if message else ''}{plural(self.not_run, 'gate')} not run", None)
            )
        if message:
            return tuple(message)
        return (("No gate reached a verdict" if self.rows else "No gate was asked for", None),)


def overview(session: RecordedSession, gates: Sequence[GateView]) -> Overview:
    """All tests that a record names, those of an unfinished session too.

    ``gates`` are those of all sessions, each with its ``place`` among them.
    """
    axes = tuple(axis for axis in AXES if any(gate.axis is axis for gate in gates))
    places = Places(session)
    parts = [
        _of_session(place, part, [gate for gate in gates if gate.place == place], axes, places)
        for place, part in enumerate(session.sessions)
    ]
    xfailed = [gate for gate in gates if gate.result.blocking and _is_xfailed(gate, session)]
    counts = Counter(gate.verdict for gate in gates)
    return Overview(
        axes=axes,
        rows=tuple(sorted((row for rows, _ in parts for row in rows), key=_order)),
        counts=counts,
        by_axis=tuple(
            (axis, Counter(gate.verdict for gate in gates if gate.axis is axis)) for axis in axes
        ),
        not_run=len(session.not_run),
        unchecked=sum(gate.is_unchecked for gate in gates)
        - sum(gate.is_unchecked for gate in xfailed),
        failed_otherwise=session.tests_failed_otherwise,
        xfailed=Counter(gate.verdict for gate in xfailed),
        without_gates=sum(without for _, without in parts),
        unfinished=sum(not gate.finished for gate in gates),
    )


def _of_session(
    place: int,
    session: RecordedSession,
    gates: Sequence[GateView],
    axes: Sequence[Axis],
    places: Places,
) -> tuple[list[TestRow], int]:
    """The rows of one session, and how many of its tests asked for no gate."""
    of_test: dict[str, list[GateView]] = {}
    for gate in gates:
        of_test.setdefault(gate.result.test, []).append(gate)
    not_run: dict[str, list[Mapping[str, Any]]] = {}
    for line in session.not_run:
        not_run.setdefault(str(line["test"]), []).append(line)
    failures: dict[str, list[Failure]] = {}
    for line in session.failed_otherwise:
        failures.setdefault(str(line["test"]), []).append(_failure(line))
    lines: dict[str, Mapping[str, Any]] = {}
    for line in session.tests:  # a test has one for each phase that failed, too
        before = lines.get(str(line["test"]))
        if before is None or before["outcome"] != "failed" or line["outcome"] == "failed":
            lines[str(line["test"])] = line
    xfailed = session.xfailed
    rows = [
        _row(
            test,
            lines.get(test, {}),
            of_test.get(test, []),
            not_run.get(test, []),
            failures.get(test, []),
            axes,
        )
        for test in dict.fromkeys([*lines, *of_test, *not_run])
        if test in of_test or test in not_run or lines[test]["outcome"] == "failed"
    ]
    rows = [replace(row, on=places.of(session, row.test), place=place) for row in rows]
    rows = [replace(row, note=_XFAILED) if row.test in xfailed else row for row in rows]
    return rows, len(lines) - sum(row.test in lines for row in rows)


def _is_xfailed(gate: GateView, session: RecordedSession) -> bool:
    return gate.result.test in session.sessions[gate.place].xfailed


def _row(
    test: str,
    test_line: Mapping[str, Any],
    gates: Sequence[GateView],
    not_run: Sequence[Mapping[str, Any]],
    failures: Sequence[Failure],
    axes: Sequence[Axis],
) -> TestRow:
    verdict = worst([gate.result.verdict for gate in gates])
    if test_line.get("outcome") == "failed" and not any(gate.result.blocking for gate in gates):
        verdict = FAILED
    file, line = word(test_line.get("file")), count(test_line.get("line"))
    stack = word(test_line.get("stack")) or (gates[0].result.stack if gates else "")
    return TestRow(
        test=test,
        where="" if file is None else f"{file}:{line}" if line else file,
        stack=stack,
        verdict=verdict,
        took=seconds(number(test_line.get("duration_s"))),
        cells=tuple(
            tuple(sorted((g for g in gates if g.axis is axis), key=lambda gate: gate.order))
            for axis in axes
        ),
        not_run=tuple(str(lost["claim"]) for lost in not_run),
        failures=tuple(failures),
        why_not_run="; ".join(
            dict.fromkeys(
                reason
                for lost in not_run
                if (reason := word(lost.get("reason")) or _BODY)
                and not any(reason == one.message for one in failures)
            )
        ),
    )


def _failure(line: Mapping[str, Any]) -> Failure:
    cause = cause_of_test(line)
    return Failure(
        kind=cause.kind,
        message=word(line.get("error")) or cause.found,
        place=cause.place or "",
        source=cause.source or "",
        step=cause.next_step,
    )


def _order(row: TestRow) -> tuple[int, int, str]:
    """Worst verdict first; among equals the one that the more reliable axis shows."""
    shows = [
        index
        for index, cell in enumerate(row.cells)
        if any(gate.verdict == row.verdict for gate in cell)
    ]
    return severity(row.verdict), min(shows, default=len(AXES)), row.test

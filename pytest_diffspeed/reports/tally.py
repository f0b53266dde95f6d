"""How many gates of a session came to what: the headline of a report, and outputs for CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ..records.reader import RecordedSession
from ..records.verdict import VerdictKind

VERDICTS = (
    VerdictKind.FAIL,
    VerdictKind.INCONCLUSIVE,
    VerdictKind.NOT_APPLICABLE,
    VerdictKind.PASS,
)
"""In the order of reports: what asks for somebody stands first."""


@dataclass(frozen=True)
class Tally:
    """Numbers of gates; ``failed_otherwise`` are tests that failed where no gate says so.

    A gate is counted once: ``xfailed`` and ``not_checked`` ones are in no verdict's number.
    """

    verdicts: Mapping[VerdictKind, int]
    xfailed: int
    not_checked: int
    not_run: int
    failed_otherwise: int


def tally_of(session: RecordedSession) -> Tally:
    """Of each gate the last run counts."""
    unchecked, expected = unchecked_in(session), expected_in(session)
    counts = Counter(
        gate.result.verdict
        for gate in session.latest
        if id(gate.result) not in unchecked | expected
    )
    return Tally(
        {kind: counts[kind] for kind in VERDICTS},
        len(expected),
        len(unchecked),
        len(session.not_run),
        session.tests_failed_otherwise,
    )


def expected_in(session: RecordedSession) -> set[int]:
    """Results, by identity, that fail a test as it was expected to: there is nothing to do."""
    return {id(gate.result) for gate in session.expected_failures}


def unchecked_in(session: RecordedSession) -> set[int]:
    """Results, by identity, of gates that could not be checked."""
    return {id(gate.result) for gate in session.latest if gate.error is not None}

"""Whether what was recorded is red, and why: what ``diffspeed report`` ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ..common.text import plural
from .devices import Places
from .reader import RecordedSession
from .verdict import VerdictKind

_OK, _TESTS_FAILED, _NO_TESTS = 0, 1, 5
"""Exit statuses of pytest."""
_STATUS_WORDS = {2: "interrupted", 3: "an internal error", 4: "a usage error"}


def red_reasons(session: RecordedSession, *, strict: bool = False) -> tuple[str, ...]:
    """Why it is red, each in a sentence; empty where it is green.

    ``strict``: every gate that was asked for must have reached a verdict in one of the sessions, as
    it must where one of them ran with ``--diffspeed-strict``.
    """
    strict = strict or any(_end(part).get("strict") is True for part in session.sessions)
    return tuple(
        [
            *_failures(session),
            *session.missing,
            *([] if session.note is None else [session.note]),
            *_exit_statuses(session),
            *_nothing_checked(session),
            *(_without_verdict(session) if strict else ()),
        ]
    )


def _failures(session: RecordedSession) -> Iterator[str]:
    expected = {id(gate) for gate in session.expected_failures}
    red = Counter(
        gate.result.verdict
        for gate in session.latest
        if gate.result.blocking and id(gate) not in expected
    )
    for verdict, many in red.items():
        yield f"{plural(many, 'gate')} {verdict}"
    if session.failed_otherwise:
        yield f"{plural(len(session.failed_otherwise), 'test')} failed otherwise"


def _exit_statuses(session: RecordedSession) -> Iterator[str]:
    """Sessions that pytest ended red for what no record says: other tests, an interruption.

    One that collected nothing is a shard without tests; that the whole has some is asked apart.
    """
    for part in session.sessions:
        status = _end(part).get("exit_status", _OK)
        if status in (_OK, _NO_TESTS) or (status == _TESTS_FAILED and any(_failures(part))):
            continue
        words = _STATUS_WORDS.get(status, "tests without gates failed")
        yield f"{part.path}: pytest ended with exit status {status} ({words})"


def _nothing_checked(session: RecordedSession) -> Iterator[str]:
    """That gates were asked for and none reached a verdict: a shard may be so, the whole not."""
    asked = session.gates or session.not_run
    reached = any(
        gate.result.verdict.reached and gate.result.figures.get("pairs") != 0
        for gate in session.latest
        if gate.finished
    )
    if asked and not reached:
        yield "gates were asked for and none reached a verdict: nothing was checked"


def _without_verdict(session: RecordedSession) -> Iterator[str]:
    """Gates that no session reached a verdict of; an INCONCLUSIVE one follows its policy."""
    reached = {
        (gate.result.test, gate.result.claim)
        for gate in session.latest
        if gate.finished and gate.result.verdict is not VerdictKind.NOT_APPLICABLE
    }
    open_gates: dict[tuple[str, str], str] = {}
    places = Places(session)
    for part in session.sessions:
        lines = [*part.not_run, *(_end(part).get("no_verdict") or ())]
        told = [
            (str(one.get("test")), str(one.get("claim")), str(one.get("reason", "")))
            for one in lines
        ]
        told += [
            (gate.result.test, gate.result.claim, str(gate.result.verdict))
            for gate in part.latest
            if not gate.finished or gate.result.verdict is VerdictKind.NOT_APPLICABLE
        ]
        for test, claim, why in told:
            where = places.of(part, test)
            open_gates.setdefault((test, claim), f"{why}{f' on {where}' if where else ''}")
    for key, why in open_gates.items():
        if key not in reached:
            yield f"no verdict (strict): {key[0]}  {key[1]}: {why}"


def _end(part: RecordedSession) -> Mapping[str, Any]:
    return part.end or {}

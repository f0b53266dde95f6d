"""Rebuild the gates of a journal, those of a killed run too.

A gate that reached its verdict is what its ``gate`` line says.  One that did not is INCONCLUSIVE
with the pairs that were flushed: a run killed at any moment loses at most the pair in progress.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from .lines import read_lines
from .verdict import Cause, EvidenceKind, GateResult, VerdictKind

_AFTERWARDS = ("stages", "memory")
"""Kinds that tell more about a gate's arms once its verdict is written: they become figures."""

_PAIRS = ("pair", "dropped-pair")
"""The second is a kind of its own, so that nobody who reads lines counts it by mistake."""


@dataclass(frozen=True)
class RecordedPair:
    """Seconds of one call of each arm, and which of the two ran first.

    ``dropped`` says why it does not count, and is ``None`` for a pair that does.
    """

    index: int
    baseline_s: float
    candidate_s: float
    candidate_first: bool
    dropped: str | None


@dataclass(frozen=True)
class RecordedGate:
    """A gate as its journal tells it; ``start`` is its ``gate-start`` line, empty if it has none.

    ``pairs`` are all that were flushed, those that do not count too.  ``finished`` says whether the
    verdict is the gate's own; ``error`` says why it could not be checked, where it was tried.
    """

    result: GateResult
    pairs: tuple[RecordedPair, ...]
    finished: bool
    start: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class RecordedSession:
    """What one session found, in the order in which it began; or several sessions as one.

    ``about`` is its ``session`` line (commit, environment, device), empty where that is lost;
    ``tests``, ``proofs``, ``ladder`` and ``not_run`` are lines of these kinds.  ``note`` says how
    many lines could not be read, and is ``None`` where all could.  ``end`` is its last line, which
    a session that was killed has not; ``asked`` are the gates that it was about to check.

    Where records hold several ``session`` lines (shards of a suite, workers of pytest-xdist on
    other machines), ``parts`` are these sessions, each by itself; gates and lines are those of all,
    and ``about`` is that of the first.  What ``missing`` says is not here and makes the whole red;
    ``remarks`` say what else was seen when sessions were put together.
    """

    path: Path
    gates: tuple[RecordedGate, ...]
    left_out: int
    note: str | None
    about: Mapping[str, Any] = field(default_factory=dict)
    tests: tuple[Mapping[str, Any], ...] = ()
    proofs: tuple[Mapping[str, Any], ...] = ()
    ladder: tuple[Mapping[str, Any], ...] = ()
    not_run: tuple[Mapping[str, Any], ...] = ()
    asked: tuple[Mapping[str, Any], ...] = ()
    end: Mapping[str, Any] | None = None
    parts: tuple[RecordedSession, ...] = ()
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    pictures_from: Path | None = None
    """The folder that paths of pictures start from, where it is not that of the report."""

    @property
    def sessions(self) -> tuple[RecordedSession, ...]:
        """Each session by itself: in one of them a test has one name and one device."""
        return self.parts or (self,)

    @property
    def failed_otherwise(self) -> tuple[Mapping[str, Any], ...]:
        """Lines of tests that failed where no gate says so: one for each phase that has its own
        reason, and of a test that gives none its last.
        """
        if self.parts:
            return tuple(line for part in self.parts for line in part.failed_otherwise)
        by_reason = {
            (str(line["test"]), line.get("error")): line
            for line in self.tests
            if line["outcome"] == "failed"
        }
        failed = by_reason.values()
        reasons = {str(line["test"]) for line in failed if line.get("error")} | self._blocked
        last = {str(line["test"]): line for line in failed if str(line["test"]) not in reasons}
        unexplained = {id(line) for line in last.values()}
        return tuple(line for line in failed if line.get("error") or id(line) in unexplained)

    @property
    def tests_failed_otherwise(self) -> int:
        """How many tests have a phase that failed where no gate says so, in each session."""
        if self.parts:
            return sum(part.tests_failed_otherwise for part in self.parts)
        return len({str(line["test"]) for line in self.failed_otherwise})

    @property
    def xfailed(self) -> frozenset[str]:
        """Tests of which a gate failed, as they were expected to: pytest saw none of them fail."""
        if self.parts:  # of a test that ran twice, one run may have failed and the other not
            return frozenset().union(*(part.xfailed for part in self.parts))
        failed = {str(line["test"]) for line in self.tests if line["outcome"] == "failed"}
        ended = {str(line["test"]) for line in self.tests} - failed
        return frozenset(ended & self._blocked)

    @property
    def expected_failures(self) -> tuple[RecordedGate, ...]:
        """Gates that failed a test which was expected to fail."""
        return tuple(
            gate
            for part in self.sessions
            for gate in part.latest
            if gate.result.blocking and gate.result.test in part.xfailed
        )

    @property
    def _blocked(self) -> set[str]:
        """Tests with a gate that fails them, expected or not."""
        return {gate.result.test for gate in self.latest if gate.result.blocking}

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The sources that its gates looked at, each once; where none says it, the session's."""
        if self.parts:
            return tuple(dict.fromkeys(name for part in self.parts for name in part.pipelines))
        named = dict.fromkeys(gate.result.source for gate in self.gates if gate.result.source)
        usual = self.about.get("pipeline")
        return tuple(named) or ((usual,) if usual and isinstance(usual, str) else ())

    @property
    def latest(self) -> tuple[RecordedGate, ...]:
        """The gates, of one that ran several times in a session its last run alone."""
        if self.parts:
            return tuple(gate for part in self.parts for gate in part.latest)
        known = {(g.result.test, g.result.stack, g.result.claim): g for g in self.gates}
        return tuple(known.values())


@dataclass
class _Open:
    """A gate while its lines are read."""

    line: Mapping[str, Any]
    start: Mapping[str, Any] = field(default_factory=dict)
    pairs: list[RecordedPair] = field(default_factory=list)
    result: GateResult | None = None
    error: str | None = None
    cause: Cause | None = None
    afterwards: dict[str, Any] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.result is not None or self.error is not None


def read_journal(path: Path) -> RecordedSession:
    """What the journal at ``path`` tells, or the file that ``--diffspeed-json`` wrote.

    Raises:
        RecordError: the file cannot be opened, or was written in another major version.
    """
    lines = read_lines(path)
    return recorded_session(lines.records, path, lines.left_out, lines.note)


def recorded_session(
    records: Iterable[Mapping[str, Any]], path: Path, left_out: int = 0, note: str | None = None
) -> RecordedSession:
    """What checked ``records`` tell of: a session, or several as one.  They stand in ``path``.

    ``left_out`` and ``note`` are what :class:`~.lines.Lines` says of the file.
    """
    parts = [_one_session(of_one, path) for of_one in by_session(records)]
    return put_together(parts, path, left_out, note)


def by_session(records: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The records of each session; those before the first ``session`` line belong to it."""
    found: list[list[Mapping[str, Any]]] = [[]]
    has_begun = False
    for record in records:
        if record["kind"] == "session":
            if has_begun:
                found.append([])
            has_begun = True
        found[-1].append(record)
    return found


def put_together(
    parts: Sequence[RecordedSession], path: Path, left_out: int = 0, note: str | None = None
) -> RecordedSession:
    """Several sessions as one; a single one stays what it is."""
    if len(parts) == 1:
        return replace(parts[0], left_out=left_out, note=note)

    def of_all(name: str) -> tuple[Any, ...]:
        return tuple(one for part in parts for one in getattr(part, name))

    return RecordedSession(
        path,
        of_all("gates"),
        left_out,
        note,
        about=parts[0].about,
        tests=of_all("tests"),
        proofs=of_all("proofs"),
        ladder=of_all("ladder"),
        not_run=of_all("not_run"),
        asked=of_all("asked"),
        parts=tuple(parts),
    )


def _one_session(records: Iterable[Mapping[str, Any]], path: Path) -> RecordedSession:
    others: dict[str, list[Mapping[str, Any]]] = {
        kind: [] for kind in ("session", "test", "proof", "ladder", "not-run", "asked", "end")
    }
    gates: list[_Open] = []
    latest: dict[tuple[str, str, str], _Open] = {}
    for record in records:
        kind = record["kind"]
        if kind in others:
            others[kind].append(record)
        if kind not in ("gate-start", *_PAIRS, "gate", "gate-error", *_AFTERWARDS):
            continue
        identity = record["test"], record["stack"], record["claim"]
        gate = latest.get(identity)
        if kind in _AFTERWARDS:
            if gate is not None:
                gate.afterwards[kind] = record[kind]
            continue
        # The same gate may run several times in a session: pytest-rerunfailures, for one.
        if gate is None or gate.ended or kind == "gate-start":
            gate = latest[identity] = _Open(record)
            gates.append(gate)
        if kind == "gate-start":
            gate.start = record
        elif kind in _PAIRS:
            gate.pairs.append(_pair(record))
        elif kind == "gate":
            gate.result = as_result(record)
        else:
            gate.error = record["error"]
            gate.cause = Cause.from_dict(record.get("cause"))
    return RecordedSession(
        path,
        tuple(map(_rebuilt, gates)),
        0,
        None,
        about=others["session"][0] if others["session"] else {},
        tests=tuple(others["test"]),
        proofs=tuple(others["proof"]),
        ladder=tuple(others["ladder"]),
        not_run=tuple(others["not-run"]),
        asked=tuple(others["asked"]),
        end=others["end"][-1] if others["end"] else None,
    )


def _pair(record: Mapping[str, Any]) -> RecordedPair:
    return RecordedPair(**{f.name: record[f.name] for f in fields(RecordedPair)})


def as_result(record: Mapping[str, Any]) -> GateResult:
    """The result in a checked line; fields that a later version added are left aside."""
    names = (f.name for f in fields(GateResult))
    return GateResult.from_dict({name: record[name] for name in names if name in record})


def _rebuilt(gate: _Open) -> RecordedGate:
    pairs = tuple(gate.pairs)
    if gate.result is not None:
        figures = {**gate.result.figures, **gate.afterwards}
        return RecordedGate(replace(gate.result, figures=figures), pairs, True, gate.start)
    counted = tuple(pair for pair in pairs if pair.dropped is None)
    many = f"{len(counted)} pair{'' if len(counted) == 1 else 's'}"
    if gate.error is None:
        reason = f"the run ended after {many}, before this gate reached a verdict"
    else:
        after = f" after {many}" if gate.start or pairs else ""  # a gate that counts has no pairs
        reason = f"it could not be checked{after}: {gate.error}"
    claim = gate.line["claim"]
    result = GateResult(
        gate=claim.partition(" ")[0],
        claim=claim,
        test=gate.line["test"],
        stack=gate.line["stack"],
        verdict=VerdictKind.INCONCLUSIVE,
        reason=reason,
        evidence=EvidenceKind.MEASURED if counted else None,
        blocking=True,  # what nobody saw to its end may not look like a success
        figures=_figures(gate.start, counted),
        axis=gate.line.get("axis"),
        cause=gate.cause,
    )
    return RecordedGate(result, pairs, False, gate.start, gate.error)


def _figures(start: Mapping[str, Any], pairs: tuple[RecordedPair, ...]) -> dict[str, Any]:
    """What the pairs alone say; the interval of an unfinished gate is open on both sides."""
    unknown = math.nan
    known = {
        name: start.get(name, unknown)
        for name in ("need", "baseline_first_call_s", "candidate_first_call_s", "seed")
    }
    return {
        **known,
        "over": str(start.get("over", "unknown")),
        "ratio": statistics.median(p.baseline_s / p.candidate_s for p in pairs)
        if pairs
        else unknown,
        "low": None,
        "high": None,
        "noise": unknown,
        "pairs": len(pairs),
        "instances": 1,
        "baseline_s": statistics.median(p.baseline_s for p in pairs) if pairs else unknown,
        "candidate_s": statistics.median(p.candidate_s for p in pairs) if pairs else unknown,
    }

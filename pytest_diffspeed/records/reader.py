"""Rebuild the gates of a journal, those of a killed run too.

A gate that reached its verdict is what its ``gate`` line says.  One that did not is INCONCLUSIVE
with the pairs that were flushed: a run killed at any moment loses at most the pair in progress.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
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
    """What one session found, in the order in which it began.

    ``about`` is its ``session`` line (commit, environment, device), empty where that is lost;
    ``tests``, ``proofs``, ``ladder`` and ``not_run`` are lines of these kinds.  ``note`` says how
    many lines could not be read, and is ``None`` where all could.
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

    @property
    def failed_otherwise(self) -> tuple[Mapping[str, Any], ...]:
        """Lines of tests that failed and have no gate that says so, each once."""
        blocked = self._blocked
        failed = {
            str(line["test"]): line
            for line in self.tests
            if line["outcome"] == "failed" and str(line["test"]) not in blocked
        }
        return tuple(failed.values())

    @property
    def xfailed(self) -> frozenset[str]:
        """Tests of which a gate failed, as they were expected to: pytest saw none of them fail."""
        failed = {str(line["test"]) for line in self.tests if line["outcome"] == "failed"}
        ended = {str(line["test"]) for line in self.tests} - failed
        return frozenset(ended & self._blocked)

    @property
    def _blocked(self) -> set[str]:
        """Tests with a gate that fails them, expected or not."""
        return {gate.result.test for gate in self.latest if gate.result.blocking}

    @property
    def pipelines(self) -> tuple[str, ...]:
        """The sources that its gates looked at, each once; where none says it, the session's."""
        named = dict.fromkeys(gate.result.source for gate in self.gates if gate.result.source)
        usual = self.about.get("pipeline")
        return tuple(named) or ((usual,) if usual and isinstance(usual, str) else ())

    @property
    def latest(self) -> tuple[RecordedGate, ...]:
        """The gates, of one that ran several times its last run alone."""
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
    """The session that checked ``records`` tell of; ``path`` is where they stand."""
    others: dict[str, list[Mapping[str, Any]]] = {
        kind: [] for kind in ("session", "test", "proof", "ladder", "not-run")
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
        left_out,
        note,
        about=others["session"][0] if others["session"] else {},
        tests=tuple(others["test"]),
        proofs=tuple(others["proof"]),
        ladder=tuple(others["ladder"]),
        not_run=tuple(others["not-run"]),
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

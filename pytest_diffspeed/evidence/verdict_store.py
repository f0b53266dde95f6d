"""Which verdicts were reached for a key, in ``<rootdir>/.diffspeed/evidence/``.

One file a key, and a line for each measurement when it starts, for each pair of it, and when it
ends.  A measurement without a verdict is gone on with: the next one starts from its pairs.  Lines
are only ever appended, each with one write, so processes that measure beside each other spoil
nothing; and since each carries its attempt, a FAIL counts whatever line another process writes
after it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..common.workdir import NAME, workdir
from ..records.journal import as_line
from ..records.lines import Lines, read_lines
from ..records.reader import as_result
from ..records.verdict import GateResult, VerdictKind
from .key import EvidenceKey


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class EvidenceMemory:
    """The memory of one pytest session; ``fresh`` is ``--diffspeed-fresh``.

    A fresh session gives each key one more attempt, not as many as it takes: what FAILs in this
    very session stays a FAIL in it, whatever plugin runs the test again.
    """

    def __init__(
        self, rootdir: Path, *, fresh: bool = False, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._rootdir = rootdir
        self._fresh = fresh
        self._now = now
        self._session = uuid.uuid4().hex

    @property
    def session(self) -> str:
        """A name that no other session has."""
        return self._session

    def path(self, key: EvidenceKey) -> Path:
        return self._rootdir / NAME / "evidence" / f"{key.digest}.jsonl"

    def attempt(self, key: EvidenceKey) -> Attempt:
        """The attempt that a gate with this key is at.

        Raises:
            RecordError: the evidence was written by another major version of this package.
        """
        path = self.path(key)
        lines = read_lines(path) if path.exists() else Lines(path, (), 0)
        records = [
            record
            for record in lines.records
            if record["kind"] in ("instance-start", "instance-pair", "instance-end")
        ]
        number = max((record["attempt"] for record in records), default=1)
        here = [record for record in records if record["attempt"] == number]
        failed = _last_failure(here)
        if failed is not None and self._fresh and failed["session"] != self._session:
            number, here, failed = number + 1, [], None
        undecided = _undecided(here)
        pairs = [
            record
            for record in here
            if record["kind"] == "instance-pair" and record["instance"] in undecided
        ]
        earlier = tuple((record["baseline_s"], record["candidate_s"]) for record in pairs)
        # What this very process measured before is no other process.
        processes = frozenset(record["process"] for record in pairs) - {self._session}
        return Attempt(self, key, number, len(undecided), earlier, processes, failed, lines.note)

    def write(self, key: EvidenceKey, kind: str, **content: Any) -> None:
        """Append a line; ``at`` and ``session`` are added."""
        workdir(self._rootdir)  # with its .gitignore
        path = self.path(key)
        path.parent.mkdir(exist_ok=True)
        at = self._now().isoformat(timespec="seconds")
        line = as_line(
            {"kind": kind, "key": key.digest, "session": self._session, "at": at, **content}
        )
        with path.open("ab+", buffering=0) as file:
            # A torn line of a killed process must not swallow this one too.
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(line.encode("utf-8"))


@dataclass(frozen=True)
class Attempt:
    """The ``number``-th attempt (from 1) of a key; each further one was asked for.

    ``undecided`` says how many measurements of it ended INCONCLUSIVE or did not end, since the last
    one that ended with PASS; ``earlier`` are their pairs, ``(baseline seconds, candidate
    seconds)``, and ``processes`` the processes that timed them, without this one.
    """

    memory: EvidenceMemory
    key: EvidenceKey
    number: int
    undecided: int
    earlier: tuple[tuple[float, float], ...]
    processes: frozenset[str]
    failed: dict[str, Any] | None
    note: str | None

    @property
    def verdict(self) -> GateResult | None:
        """The FAIL that this attempt reached already, to be said without measuring."""
        if self.failed is None:
            return None
        result = as_result(self.failed["result"])
        day = self.failed["at"].replace("T", " ").replace("+00:00", " UTC")
        reason = (
            f"FAILed already on {day}, attempt {self.number} for this tree "
            f"({result.reason}); --diffspeed-fresh asks for another attempt"
        )
        figures = {**result.figures, "attempt": self.number, "remembered_from": self.failed["at"]}
        return replace(result, reason=self.noted(reason), figures=figures, blocking=True)

    def begin(self) -> Instance:
        """Write down that a measurement starts: one that is killed counts as undecided."""
        instance = Instance(self, uuid.uuid4().hex)
        instance.write("instance-start", parts=dict(self.key.parts))
        return instance

    def noted(self, reason: str) -> str:
        return reason if self.note is None else f"{reason}; {self.note}"


@dataclass(frozen=True)
class Instance:
    """One measurement: a process in which the arms were built anew."""

    attempt: Attempt
    name: str

    def end(self, result: GateResult) -> GateResult:
        """Write the verdict down, and give it with its attempt in ``figures`` and ``reason``."""
        number, undecided = self.attempt.number, self.attempt.undecided
        sentence = result.reason
        if number > 1:
            sentence += f"; attempt {number} for this tree"
        if undecided:
            runs = "run" if undecided == 1 else "runs"
            sentence += f"; {undecided} earlier {runs} for this tree came to no verdict"
            pairs = result.figures.get("earlier_pairs", len(self.attempt.earlier))
            if pairs:
                whose = "its" if undecided == 1 else "their"
                sentence += f", and {whose} {pairs} pair{'' if pairs == 1 else 's'} count here"
        noted = replace(
            result,
            reason=self.attempt.noted(sentence),
            figures={**result.figures, "attempt": number, "undecided_before": undecided},
        )
        self.write("instance-end", result=result.as_dict())
        return noted

    def pair(self, baseline_s: float, candidate_s: float, worker: int | None = None) -> None:
        """Write down a pair that counts, as it happens.

        ``worker`` is the number of the worker processes that timed it; ``None``: this process did.
        """
        memory = self.attempt.memory
        process = memory.session if worker is None else f"{self.name}/{worker}"
        self.write("instance-pair", baseline_s=baseline_s, candidate_s=candidate_s, process=process)

    def write(self, kind: str, **content: Any) -> None:
        attempt = self.attempt
        attempt.memory.write(
            attempt.key, kind, attempt=attempt.number, instance=self.name, **content
        )


def _last_failure(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    failed = [r for r in records if _verdict(r) is VerdictKind.FAIL]
    return failed[-1] if failed else None


def _undecided(records: list[dict[str, Any]]) -> set[str]:
    """The measurements without a verdict that began after the last PASS."""
    passed = [i for i, record in enumerate(records) if _verdict(record) is VerdictKind.PASS]
    since = records[passed[-1] + 1 :] if passed else records
    return {record["instance"] for record in since if record["kind"] == "instance-start"}


def _verdict(record: dict[str, Any]) -> VerdictKind | None:
    if record["kind"] != "instance-end":
        return None
    return VerdictKind(record["result"]["verdict"])

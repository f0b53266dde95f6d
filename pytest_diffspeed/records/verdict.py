"""What a gate says: a verdict, the evidence it rests on, and one sentence that gives the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any


class VerdictKind(str, Enum):
    """What a gate answers."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    """Missing *hardware*, a gate whose markers are all for another stack or device, or something to
    count that this stack does not show."""

    def __str__(self) -> str:
        return self.value

    @property
    def reached(self) -> bool:
        """Whether the gate looked at evidence at all."""
        return self is not VerdictKind.NOT_APPLICABLE


class EvidenceKind(str, Enum):
    MEASURED = "measured"
    """By a clock on this device."""
    COUNTED = "counted"
    """Deterministic: syncs, graph breaks, ops, layers."""
    MODELLED = "modelled"
    """Computed from counts by fixed rules."""

    def __str__(self) -> str:
        return self.value


class Axis(str, Enum):
    """Where reports show a gate, the surest figures first."""

    STRUCTURE = "structure"
    """Counted of the code that runs, so the same each time: graph breaks, host syncs."""
    IMAGES = "images"
    RATIO = "ratio"
    MEMORY = "memory"
    TIME = "time"
    """Seconds, measured once."""
    OTHER = "other"
    """What a record says that this version does not know."""

    def __str__(self) -> str:
        return self.value


HIGHER, LOWER = "higher", "lower"
METRIC_KINDS = RATIO, COUNT, SIMILARITY, SECONDS = "ratio", "count", "similarity", "seconds"


@dataclass(frozen=True)
class Metric:
    """A number of a gate that is worth following over commits, or that other tools may keep.

    Args:
        name: what exports call it, short and the same in all sessions; ``None``: not exported.
        value: the number; one that is not finite is left out wherever metrics are read.
        unit: for people, as ``graph breaks``.
        better: ``"higher"`` or ``"lower"``.
        kind: ``"ratio"``, ``"count"``, ``"similarity"`` or ``"seconds"``; formats of other tools
            take some of them, and seconds only where they are asked for.
        is_counted: without noise, so that every difference is one.
        series: what the history calls it; ``None``: not followed, as seconds are not.
        low: lower end of an interval around ``value``, where it was measured.
        high: its upper end.
    """

    name: str | None
    value: float | None
    unit: str
    better: str = LOWER
    kind: str = COUNT
    is_counted: bool = True
    series: str | None = None
    low: float | None = None
    high: float | None = None


ONE_LINE = 90
"""Characters that a next step of ours has at most: a terminal of a hundred columns shows it whole,
behind its word and the indentation."""


@dataclass(frozen=True)
class Cause:
    """Why something is red, for somebody who reads it for ten seconds; all of it stands elsewhere.

    Args:
        kind: of failure, as ``GPU SYNC``.
        found: one clause: what was found, and what is allowed.
        next_step: what to do about it, without a full stop, in :data:`ONE_LINE`.
        place: ``file.py:18``; ``None`` where it is no line of code.
        source: the line of code there.
    """

    kind: str
    found: str
    next_step: str
    place: str | None = None
    source: str | None = None

    def as_dict(self) -> dict[str, str]:
        """Without what there is not."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, plain: Any) -> Cause | None:
        """``None`` of what is none; fields that a later version added are left aside."""
        if not isinstance(plain, dict):
            return None
        known = {f.name: plain[f.name] for f in fields(cls) if isinstance(plain.get(f.name), str)}
        needed = ("kind", "found", "next_step")
        return cls(**known) if all(name in known for name in needed) else None


@dataclass(frozen=True)
class GateResult:
    """The outcome of one gate on one test; plain data, so that it crosses process borders.

    ``figures`` holds what the gate found, by name, with units in the names (``first_call_s``).
    ``blocking`` says whether this result fails its test: a FAIL always does, an INCONCLUSIVE one
    by the policy of ``--diffspeed-inconclusive``.  ``axis`` (a value of :class:`Axis`) and
    ``metrics`` are what reports, history and exports show of it, and ``source`` is the pipeline
    source that it looked at; all three are ``None`` in records of versions that did not write them
    (:mod:`.older`).  ``cause`` is for those that did not pass: what is wrong, where, and what to do
    next, where the gate says so.
    """

    gate: str
    claim: str
    test: str
    stack: str
    verdict: VerdictKind
    reason: str
    evidence: EvidenceKind | None
    blocking: bool
    figures: dict[str, Any] = field(default_factory=dict)
    axis: str | None = None
    metrics: tuple[Metric, ...] | None = None
    source: str | None = None
    cause: Cause | None = None

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        del plain["cause"]
        if self.cause is not None:
            plain["cause"] = self.cause.as_dict()
        plain["verdict"] = str(self.verdict)
        plain["evidence"] = None if self.evidence is None else str(self.evidence)
        if self.axis is None:
            del plain["axis"]
        if self.metrics is None:
            del plain["metrics"]
        if self.source is None:
            del plain["source"]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> GateResult:
        evidence, metrics = plain["evidence"], plain.get("metrics")
        known = tuple(one.name for one in fields(Metric))
        return cls(
            **{
                **plain,
                "metrics": None
                if metrics is None
                else tuple(
                    Metric(**{name: one[name] for name in known if name in one}) for one in metrics
                ),
                "verdict": VerdictKind(plain["verdict"]),
                "evidence": None if evidence is None else EvidenceKind(evidence),
                "cause": Cause.from_dict(plain.get("cause")),
            }
        )

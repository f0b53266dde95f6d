"""What a gate says: a verdict, the evidence it rests on, and one sentence that gives the reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any


class VerdictKind(str, Enum):
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


class Evidence(str, Enum):
    MEASURED = "measured"
    """By a clock on this device."""
    COUNTED = "counted"
    """Deterministic: syncs, graph breaks, ops, layers."""
    MODELLED = "modelled"
    """Computed from counts."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class GateResult:
    """The outcome of one gate on one test; plain data, so that it crosses process borders.

    ``figures`` holds what the gate found, by name, with units in the names (``first_call_s``).
    ``blocking`` says whether this result fails its test: a FAIL always does, an INCONCLUSIVE one
    by the policy of ``--diffspeed-inconclusive``.
    """

    gate: str
    claim: str
    test: str
    stack: str
    verdict: VerdictKind
    reason: str
    evidence: Evidence | None
    blocking: bool
    figures: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        plain = asdict(self)
        plain["verdict"] = str(self.verdict)
        plain["evidence"] = None if self.evidence is None else str(self.evidence)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> GateResult:
        evidence = plain["evidence"]
        return cls(
            **{
                **plain,
                "verdict": VerdictKind(plain["verdict"]),
                "evidence": None if evidence is None else Evidence(evidence),
            }
        )

"""What a gate is, and what it is given.  Imports no torch: gates are known at collection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..markers import GateMarker
from ..verdict import GateResult

if TYPE_CHECKING:
    from ..session import PreparedArm, Session
    from ..techniques.stacks import Stack


@dataclass(frozen=True)
class GateContext:
    """One test with one stack: what its gates look at.

    ``previous`` is the stack before this one in the test's marker, or the baseline.
    """

    test: str
    session: Session
    candidate: PreparedArm
    previous: Stack


class Gate(ABC):
    """One kind of assertion."""

    markers: ClassVar[tuple[type[GateMarker], ...]]

    def unavailable(self, marker: GateMarker) -> str | None:
        """Why this version cannot check this marker, or ``None``."""
        return None

    @abstractmethod
    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        """Collect the evidence and give the verdict; records are written before it returns."""

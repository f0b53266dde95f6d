"""What a gate is, and what it is given.  Imports no torch: gates are known at collection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..common.errors import DiffspeedError
from ..records.verdict import GateResult
from .marker import GateMarker

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
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


Checked = tuple[GateMarker, "GateResult | DiffspeedError"]
"""A marker with its verdict, or with why it could not be checked."""


class Gate(ABC):
    """One kind of assertion."""

    markers: ClassVar[tuple[type[GateMarker], ...]]
    counts: ClassVar[bool] = False
    """Whether it counts and times nothing: such gates run before those that time."""

    def unavailable(self, marker: GateMarker) -> str | None:
        """Why this version cannot check this marker, or ``None``."""
        return None

    def unfit(self, marker: GateMarker, source: str) -> str | None:
        """Why this marker cannot hold for a pipeline source, told at collection, or ``None``."""
        return None

    @abstractmethod
    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        """Collect the evidence and give the verdict; records are written before it returns."""

    def check_all(self, markers: Sequence[GateMarker], context: GateContext) -> Iterator[Checked]:
        """Check the markers of one test that are of this kind, each as if it were alone.

        A gate that can share work between them overrides this.
        """
        for marker in markers:
            try:
                yield marker, self.check(marker, context)
            except DiffspeedError as error:
                yield marker, error

"""What one test asks for, as its markers say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ..gates.marker import GateMarker
from ..techniques.stacks import Stack


@dataclass(frozen=True)
class Plan:
    """The stacks a test runs with, its pipeline source, its gate markers, closest first, and the
    marks that all this was read from.
    """

    stacks: tuple[Stack, ...]
    source: str | None
    gates: tuple[GateMarker, ...]
    marks: tuple[pytest.Mark, ...]

    def previous(self, stack: Stack) -> Stack:
        """The stack before ``stack`` in the marker; before the first comes the baseline."""
        position = self.stacks.index(stack)
        return self.stacks[position - 1] if position else stack.baseline

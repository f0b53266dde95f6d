"""Which arm is meant: a pipeline source and a stack.  Known at collection, so no torch here."""

from __future__ import annotations

from dataclasses import dataclass

from ..techniques.stacks import Stack


@dataclass(frozen=True)
class ArmSpec:
    """``source`` is the text that names a pipeline source."""

    source: str
    stack: Stack

    @property
    def is_baseline(self) -> bool:
        return self.stack.is_baseline

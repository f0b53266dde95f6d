"""What was counted of an arm, as plain data: it crosses from a worker to its parent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PEAK_BYTES = "peak bytes"
"""What memory is counted as; it has no lines of code."""


@dataclass(frozen=True)
class CountedLine:
    """A line of code that something was counted at; ``file`` starts from the tree it lies in.

    ``what`` and ``source`` stay the same when lines are added above it, so that it can be found in
    another commit.
    """

    component: str
    what: str
    file: str
    line: int
    function: str
    source: str
    count: int

    @property
    def identity(self) -> tuple[str, ...]:
        """What makes it the same line in another tree."""
        return self.component, self.what, self.file, self.function, self.source

    def __str__(self) -> str:
        text = f"{self.file}:{self.line} in {self.function}: {self.what}"
        return f"{text}\n    {self.source}" if self.source else text


@dataclass(frozen=True)
class Counts:
    """Counts by component and what was counted, and where; ``notes`` is what else was noticed."""

    counts: Mapping[str, Mapping[str, int]]
    sites: tuple[CountedLine, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

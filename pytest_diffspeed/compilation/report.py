"""What a look at a callable found.  Plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..common.errors import DiffspeedError
from ..common.paths import short_path
from ..common.text import plural


class NothingCompiledError(DiffspeedError):
    """Not a single graph was captured and no break explains it: nothing was checked."""


class CompileFailedError(DiffspeedError):
    """Capturing raised, which is not a graph break; the message ends with the root error."""


@dataclass(frozen=True)
class GraphBreak:
    """One place in the source where dynamo cannot go on.

    ``runs`` is how often that line runs in one call (``None``: not counted).  ``skipped`` names the
    function that is left to Python as a whole because the break stands in a loop, a generator or a
    context manager; dynamo sees no further breaks in it until this one is gone.
    """

    reason: str
    file: str
    line: int
    source: str = ""
    function: str = ""
    remedy: str | None = None
    runs: int | None = None
    skipped: str | None = None
    stack: tuple[tuple[str, int, str], ...] = ()
    disabled: bool = False
    """Somebody asked for it, by ``torch.compiler.disable``."""

    @property
    def where(self) -> str:
        """``file:line``, relative to the working directory where the file lies in it."""
        return f"{short_path(self.file)}:{self.line}" if self.line else self.file

    def __str__(self) -> str:
        parts = [f"{self.where} in {self.function}: {self.reason}"]
        if self.source:
            parts.append(f"    {self.source}")
        if self.runs is not None and self.runs != 1:
            parts.append(f"    this line runs {self.runs} times in one call")
        if self.skipped is not None:
            parts.append(
                f"    all of {self.skipped} runs without compilation because of it, and breaks "
                "further on in it cannot be seen yet"
            )
        if self.remedy is not None:
            parts.append(f"    remedy: {self.remedy}")
        return "\n".join(parts)


@dataclass(frozen=True)
class GraphBreakReport:
    """What ``torch.compile`` makes of a callable, seen without compiling any kernel.

    Attributes:
        name: what was looked at.
        graphs: graphs captured over all calls; ``graphs_by_call`` has the new ones of each.
        ops: operations in them.
        breaks: each place once, in the order in which dynamo met them.
        how: ``whole``, or which parts are compiled by themselves.
        counted: dynamo's own counter of graph breaks by message, as far as it grew.
        notes: what else the reader should know (hooks on the module, recompilations).
        seconds: wall time of the look.
    """

    name: str
    graphs: int
    ops: int
    breaks: tuple[GraphBreak, ...]
    how: str = "whole"
    graphs_by_call: tuple[int, ...] = ()
    recompiles: int = 0
    counted: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """At least one graph, and no break by any of the three ways in which one shows."""
        return self.graphs > 0 and not self.breaks and not self.counted

    def summary(self) -> str:
        """``unet: 3 graphs, 2 breaks``."""
        return f"{self.name}: {plural(self.graphs, 'graph')}, {plural(len(self.breaks), 'break')}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __repr__(self) -> str:
        return f"<GraphBreakReport {self.summary()}>"

    def __str__(self) -> str:
        head = f"{self.summary()}, {plural(self.ops, 'operation')} ({self.how})"
        lines = [head, *(f"  {line}" for found in self.breaks for line in str(found).splitlines())]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

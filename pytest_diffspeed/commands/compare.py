"""The same pipelines and schedulers on a real GPU and on the simulated one: where do they differ?

What the simulated GPU counts is derived from PyTorch's code; on a machine with a GPU this shows
whether the derivation holds there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from ..accelerators.accelerator import SyncCounter
from ..accelerators.registry import counting_kinds, counting_words
from ..common.errors import UsageError
from ..common.paths import short_path
from ..common.quiet import third_party
from ..common.text import first_line
from ..syncs.backends import SIMULATED, backend
from ..syncs.count import count_on
from ..syncs.report import SyncReport, SyncSite
from ..syncs.scheduler_drivers import create
from ..syncs.scope_names import ScopeName
from .audit import scheduler_classes

SOURCES = ("demo", "random:sdxl-tiny", "random:flux-tiny")
"""Pipelines that are compared where none are named."""
_Place = tuple[str, int, bool]


@dataclass(frozen=True)
class Subject:
    """Something whose syncs are counted twice; ``make()`` gives it new."""

    name: str
    make: Callable[[], Any]
    scope: ScopeName = "call"


@dataclass(frozen=True)
class Count:
    """Syncs of one line: in the first step, in the steady steps, and outside the steps."""

    first_step: int = 0
    steady_steps: int = 0
    outside: int = 0
    kinds: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.kinds:
            return "none"
        where = (
            (self.first_step, "in the first step"),
            (self.steady_steps, "in steady ones"),
            (self.outside, "outside"),
        )
        counts = ", ".join(f"{count} {place}" for count, place in where if count)
        return f"{counts} ({' and '.join(self.kinds)})"


@dataclass(frozen=True)
class SiteDifference:
    """A line whose syncs are not the same on both."""

    place: str
    source: str
    real: Count
    simulated: Count

    def __str__(self) -> str:
        return (
            f"{self.place}  real: {self.real}; simulated: {self.simulated}  {self.source}".rstrip()
        )


@dataclass(frozen=True)
class Compared:
    """One subject: its differences, or why it could not be compared."""

    name: str
    lines: int
    syncs: int
    differences: tuple[SiteDifference, ...] = ()
    problem: str | None = None

    @property
    def same(self) -> bool:
        return not self.differences and self.problem is None

    def report(self) -> list[str]:
        """For a person: one line, then one for each difference."""
        if self.problem is not None:
            return [f"{self.name}: could not be compared: {self.problem}"]
        if not self.differences:
            return [f"{self.name}: the same on both: {self.syncs} syncs at {self.lines} lines"]
        head = f"{self.name}: differs at {len(self.differences)} of {self.lines} lines"
        return [head, *(f"    {difference}" for difference in self.differences)]


def compare_reports(
    real: SyncReport, simulated: SyncReport
) -> tuple[int, tuple[SiteDifference, ...]]:
    """How many lines sync on either, and those where counts or kinds are not the same.

    A kind that the driver did not tell (``unclassified``) differs from none.
    """
    ours, theirs = _by_place(simulated.sites), _by_place(real.sites)
    sources = {_place(site): site.source for site in (*real.sites, *simulated.sites)}
    places = sorted({*ours, *theirs})
    found = []
    for place in places:
        one, other = theirs.get(place, Count()), ours.get(place, Count())
        classified = "unclassified" not in one.kinds
        counts = [(c.first_step, c.steady_steps, c.outside) for c in (one, other)]
        if counts[0] != counts[1] or (classified and one.kinds != other.kinds):
            where = f"{short_path(place[0])}:{place[1]}"
            found.append(SiteDifference(where, sources[place], one, other))
    return len(places), tuple(found)


def _place(site: SyncSite) -> _Place:
    return site.file, site.line, site.kind == "may_block"


def _by_place(sites: Sequence[SyncSite]) -> dict[_Place, Count]:
    found: dict[_Place, Count] = {}
    for site in sites:
        known = found.get(_place(site), Count())
        found[_place(site)] = Count(
            known.first_step + site.first_step,
            known.steady_steps + site.steady_steps,
            known.outside + site.outside,
            tuple(sorted({*known.kinds, site.kind})),
        )
    return found


def subjects(sources: Sequence[str], *, schedulers: bool) -> Iterator[Subject]:
    """Pipelines by the text of their sources, and every scheduler of diffusers."""
    from ..pipelines.sources import parse_source

    for text in sources:
        yield Subject(text, parse_source(text).build)
    if schedulers:
        with third_party():
            classes = list(scheduler_classes())
        for name, found in classes:
            if not isinstance(found, str):
                yield Subject(name, _maker(found), "scheduler.step")


def _maker(scheduler_class: type[Any]) -> Callable[[], Any]:
    return lambda: create(scheduler_class)


def compare(
    chosen: Sequence[Subject],
    *,
    real: Callable[[], AbstractContextManager[SyncCounter]],
    simulated: Callable[[], AbstractContextManager[SyncCounter]],
    steps: int,
    on_row: Callable[[Compared], None] = lambda row: None,
) -> list[Compared]:
    """Count each subject on both; one that cannot be run is a row with the reason."""
    rows = []
    for subject in chosen:
        row = _compare_one(subject, real, simulated, steps)
        rows.append(row)
        on_row(row)
    return rows


def _compare_one(
    subject: Subject,
    real: Callable[[], AbstractContextManager[SyncCounter]],
    simulated: Callable[[], AbstractContextManager[SyncCounter]],
    steps: int,
) -> Compared:
    reports = []
    # The simulated one first: it takes the weights where they were built, on the CPU.
    for where, device in (("simulated GPU", simulated), ("real GPU", real)):
        try:
            with third_party():
                target = subject.make()
            with device() as counter:
                reports.append(count_on(counter, target, subject.scope, steps))
        except Exception as error:  # one subject must not hide the others
            problem = f"on the {where}: {type(error).__name__}: {first_line(error)}"
            return Compared(subject.name, 0, 0, problem=problem)
    ours, theirs = reports
    lines, differences = compare_reports(theirs, ours)
    return Compared(subject.name, lines, ours.total + ours.may_block, differences)


def on_this_machine(device: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The real GPU called ``device`` and the simulated one.

    Raises:
        UsageError: there is no GPU here, so nothing could be compared.
    """
    kind = counting_kinds().get(device.partition(":")[0])
    if kind is None:
        valid = ", ".join(counting_words())
        raise UsageError(f"--device={device} is not a real GPU; valid: {valid}")
    if not kind.is_available():
        raise UsageError(
            f"this compares a real GPU with the simulated one, and torch {torch.__version__} finds "
            f"no {kind.kind.upper()} device here: nothing was compared; run it on a "
            "machine with a GPU. `diffspeed audit schedulers` counts on the simulated GPU alone"
        )
    return (lambda: backend(device)), (lambda: backend(SIMULATED))


def compare_syncs(
    sources: Sequence[str],
    *,
    device: str,
    steps: int,
    on_row: Callable[[Compared], None],
) -> list[Compared]:
    """What ``diffspeed compare syncs`` does; schedulers too where no source is named.

    Raises:
        UsageError: no GPU, or a source that makes no sense.
    """
    real, simulated = on_this_machine(device)
    chosen = list(subjects(sources or SOURCES, schedulers=not sources))
    return compare(chosen, real=real, simulated=simulated, steps=steps, on_row=on_row)


def summary(rows: Sequence[Compared]) -> str:
    """The last line."""
    missing = sum(row.problem is not None for row in rows)
    differ = sum(bool(row.differences) for row in rows)
    return (
        f"{len(rows)} compared: {sum(row.same for row in rows)} the same on both, {differ} differ, "
        f"{missing} could not be compared (counted)"
    )

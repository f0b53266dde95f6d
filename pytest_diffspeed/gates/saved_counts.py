"""The ratchet of a session: counts against the file of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from ..common.errors import UsageError
from ..common.workdir import workdir
from ..compilation.counts_file import (
    FILE_NAME,
    Entry,
    checked_entry,
    compare,
    read_counts,
    write_counts,
)

if TYPE_CHECKING:
    from ..arms.session import Session
    from .gate import GateContext

SAVED = "saved"
"""In place of a number in a marker: as many as the file of counts says."""
UPDATE = "pytest --diffspeed --diffspeed-save-counts"


@dataclass(frozen=True)
class Ratchet:
    """What the file says about one gate's counts."""

    worse: tuple[str, ...] = ()
    better: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[str, ...]:
        lines = [f"worse than {FILE_NAME}: {line}" for line in self.worse]
        if self.worse:
            lines.append(f"if that is meant, save it: {UPDATE}")
        return (*lines, *self.better)


def saved_counts(session: Session) -> SavedCounts:
    """Those of the project that a session runs in."""
    return SavedCounts(session.rootdir, save=session.options.save_counts)


class SavedCounts:
    """Reads ``diffspeed-counts.txt`` in pytest's rootdir, if it is there, and writes it if asked.

    With ``save`` each count that a gate finds replaces its entry at once; the others stay.
    """

    def __init__(self, rootdir: Path, *, save: bool) -> None:
        self.path = rootdir / FILE_NAME
        self._save = save

    def check(
        self, context: GateContext, found: Mapping[str, Mapping[str, int]], *, needed: bool
    ) -> Ratchet:
        """Compare (or save) the counts of each component.

        Raises:
            CountsFileError: the file cannot be read.
            UsageError: ``needed``, and there is no file.
        """
        with self._alone():
            return self._check(context, found, needed=needed)

    def _alone(self) -> AbstractContextManager[object]:
        """Nobody else reads and writes the file meanwhile: xdist's workers share it."""
        if not self._save:
            return nullcontext()
        return FileLock(workdir(self.path.parent) / "counts.lock")

    def _check(
        self, context: GateContext, found: Mapping[str, Mapping[str, int]], *, needed: bool
    ) -> Ratchet:
        there = self.path.is_file()
        if not there and not self._save:
            if needed:
                raise UsageError(
                    f"its limit is 'saved', and there is no {FILE_NAME} in {self.path.parent}; "
                    f"write it with {UPDATE}"
                )
            return Ratchet()
        entries = read_counts(self.path) if there else {}
        spec = context.candidate.spec
        worse: list[str] = []
        better: list[str] = []
        for component, counts in found.items():
            entry: Entry = checked_entry((spec.source, spec.stack.name, component))
            if self._save:
                entries[entry] = {**entries.get(entry, {}), **counts}
                continue
            less, more = compare(entry, entries.get(entry), counts)
            worse += less
            better += more
        if self._save:
            write_counts(self.path, entries)
        elif better:
            better = [f"better than saved: {'; '.join(better)}; keep it with {UPDATE}"]
        return Ratchet(tuple(worse), tuple(better))

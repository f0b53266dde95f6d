"""What one check found, written the moment it is known.

A machine with a GPU may be there for minutes and be taken away without warning.  So a check's line
is appended and flushed when it ends, and nothing is kept in memory that a kill could lose.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

AS_EXPECTED = "as expected"
DIFFERS = "differs"
ERROR = "error"
RECORDED = "recorded"
"""A figure that nobody expected anything of."""
NO_MEANING = "no meaning here"
"""The question does not arise on this device; the check says why."""
NOT_REACHED = "not reached"
"""Planned, and the part was over before: its time, a crash or a kill."""

BAD = (DIFFERS, ERROR, NOT_REACHED)
VERDICTS = (AS_EXPECTED, RECORDED, NO_MEANING, *BAD)


@dataclass
class Found:
    """What a check fills in; ``ok`` stays ``None`` where nothing was expected."""

    found: str = ""
    ok: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def expect(self, ok: bool, found: object, **figures: Any) -> None:
        """It was expected, and this is what came."""
        self.ok, self.found = bool(ok), str(found)
        self.figures |= figures

    def record(self, found: object, **figures: Any) -> None:
        """A figure to keep, with no right answer."""
        self.found = str(found)
        self.figures |= figures


class NoMeaning(Exception):
    """Raised inside a check whose question does not arise on this device; says why."""


class Writer:
    """Appends lines of one part to the file of all parts.  Several processes may do so at once."""

    def __init__(self, path: Path, part: str) -> None:
        self._path = path
        self._part = part

    def write(self, kind: str, **content: Any) -> None:
        line = json.dumps({"kind": kind, "part": self._part, **content}, ensure_ascii=False)
        for folder, name in _places():
            line = line.replace(folder, name)
        # One write with O_APPEND: lines of parts that run beside each other stay whole.
        target = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(target, (line + "\n").encode())
            os.fsync(target)
        finally:
            os.close(target)


@functools.cache
def _places() -> list[tuple[str, str]]:
    """Folders of this machine, longest first, and what a committed result calls them."""
    import site
    import tempfile

    root = str(Path(__file__).resolve().parents[2])
    packages = [*site.getsitepackages(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    found = {folder: "site-packages" for folder in packages if folder and folder != root}
    found |= {root: "checkout", sys.prefix: "python", tempfile.gettempdir(): "temp"}
    return sorted(found.items(), key=lambda item: -len(item[0]))


class Part:
    """What a part is given: where it runs, how large, and where its checks are written."""

    def __init__(
        self, key: str, writer: Writer, *, device: str, work: Path, planted: bool, limit_s: float
    ) -> None:
        self.key = key
        self.device = device
        """``cuda`` or ``cpu``."""
        self.small = device == "cpu"
        """Sizes of a dry run: the same code, minutes on two cores."""
        self.work = work
        """A folder of this part alone, for what it needs while it runs."""
        self.planted = planted
        """The part's own fault is planted: at least one check must then be red."""
        self._writer = writer
        self._ends = time.monotonic() + limit_s

    @property
    def time_left_s(self) -> float:
        return self._ends - time.monotonic()

    def plan(self, names: Sequence[str]) -> None:
        """Name the checks to come: those that are never written count as not reached."""
        self._writer.write("plan", checks=list(names))

    @contextmanager
    def check(self, name: str, expected: str = "") -> Iterator[Found]:
        """One check.  What it raises is its verdict, and the next check goes on.

        ``expected`` is for a person: one phrase.  Leave it out for figures that are recorded.
        """
        found, started = Found(), time.monotonic()
        verdict, trace = None, None
        try:
            yield found
        except NoMeaning as why:
            verdict, found.found = NO_MEANING, str(why)
        except Exception as error:  # one check must not hide the others
            verdict = ERROR
            lines = str(error).strip().splitlines() or ["no message"]
            found.found = f"{type(error).__name__}: {lines[0]}"
            trace = traceback.format_exc()[-4000:]
            print(f"{name}: {trace}", flush=True)
        if verdict is None:
            if found.ok is None:
                # A check that promised an answer and gave none is not a figure.
                verdict = ERROR if expected else RECORDED
                found.found = found.found or "the check ended without an answer"
            else:
                verdict = AS_EXPECTED if found.ok else DIFFERS
        self._writer.write(
            "check",
            check=name,
            expected=expected,
            found=found.found,
            verdict=verdict,
            seconds=round(time.monotonic() - started, 2),
            figures=found.figures,
            **({"trace": trace} if trace else {}),
        )
        print(f"{name}: {verdict}: {found.found}", flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a run; a last line that a kill cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def checks_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every check of a run, in the order of parts; planned ones that never came as not reached."""
    parts = list(dict.fromkeys(row["part"] for row in rows if row["kind"] == "part"))
    why = {row["part"]: row["why"] for row in rows if row["kind"] == "ended" and row["why"]}
    found: list[dict[str, Any]] = []
    for part in parts:
        own = [dict(row) for row in rows if row["part"] == part and row["kind"] == "check"]
        seen = {row["check"] for row in own}
        planned = [
            name
            for row in rows
            if row["part"] == part and row["kind"] == "plan"
            for name in row["checks"]
        ]
        missing = [name for name in planned if name not in seen]
        if not own and not planned:
            missing = ["(all of this part)"]
        ended = any(row["part"] == part and row["kind"] == "ended" for row in rows)
        reason = why.get(part) or ("the part ended before it" if ended else "the run was ended")
        own += [
            {"part": part, "check": name, "expected": "", "found": reason, "verdict": NOT_REACHED}
            for name in dict.fromkeys(missing)
        ]
        if not missing and part in why:  # a part that died after its last check
            own.append(
                {
                    "part": part,
                    "check": "(end of this part)",
                    "expected": "",
                    "found": why[part],
                    "verdict": ERROR,
                }
            )
        found += own
    return found

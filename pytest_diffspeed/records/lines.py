"""The lines of a journal, each checked: what cannot be read is counted and left out.

A killed run leaves a torn last line and a full disk a torn one in the middle.  Neither may cost
the lines around it.  Lines are data: nothing in them is imported, called or evaluated.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..common.errors import RecordError
from .journal import SCHEMA
from .schema import fits

_SCHEMA_NAME = re.compile(r"diffspeed/([0-9]+)(?:\.[0-9]+)*")
MAJOR = SCHEMA.partition("/")[2]
MOST_BYTES = 64 * 2**20
"""A longer line is no record of ours, and is never held in memory."""


@dataclass(frozen=True)
class Lines:
    """The records of a file in their order; ``left_out`` lines could not be read."""

    path: Path
    records: tuple[dict[str, Any], ...]
    left_out: int

    @property
    def note(self) -> str | None:
        """What to tell where lines were left out."""
        if not self.left_out:
            return None
        lines = "line" if self.left_out == 1 else "lines"
        count = "counts" if self.left_out == 1 else "count"
        return (
            f"{self.left_out} {lines} of {self.path} could not be read and {count} as not written"
        )


def read_lines(path: Path) -> Lines:
    """Read every line of ``path`` that is a record of this schema.

    Records of a kind that is not known here are given too: a minor version may add some.

    Raises:
        RecordError: the file cannot be opened, or was written in another major version.
    """
    records: list[dict[str, Any]] = []
    left_out = 0
    for record in each_line(path):
        if record is None:
            left_out += 1
        else:
            records.append(record)
    return Lines(path, tuple(records), left_out)


def each_line(path: Path) -> Iterator[dict[str, Any] | None]:
    """The record in each line, as the file is read; ``None`` for a line that cannot be read.

    Raises:
        RecordError: as :func:`read_lines`, as soon as it is seen.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, forever
            raise RecordError(f"cannot read the records in {path}: it is no regular file")
        file = path.open("rb")
    except OSError as error:
        raise RecordError(f"cannot read the records in {path}: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have: a NUL, half a character
        raise RecordError(f"cannot read the records in {str(path)!r}: {error}") from error
    try:
        with file:
            for line in _whole_lines(file):
                if line.strip():
                    yield _record(line, path)
    except OSError as error:
        raise RecordError(f"cannot read the records in {path}: {error.strerror}") from error


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines; of one that is too long, the beginning, which is no JSON."""
    while line := file.readline(MOST_BYTES):
        yield line
        while len(line) == MOST_BYTES and not line.endswith(b"\n"):
            line = file.readline(MOST_BYTES)


def _record(line: bytes, path: Path) -> dict[str, Any] | None:
    """The record in ``line``; ``None`` where it is none, or lacks fields of its kind."""
    try:
        # RecursionError: brackets nested by the thousand.  ValueError: no JSON, no UTF-8, or a
        # number that no double holds, which we never write and nobody could compute with.
        record = json.loads(
            line.decode("utf-8"),
            parse_constant=_refuse,
            parse_float=_finite_float,
            parse_int=_bounded_int,
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("schema"), str):
        return None
    schema = _SCHEMA_NAME.fullmatch(record["schema"])
    if schema is None:
        return None
    if schema[1] != MAJOR:
        raise RecordError(
            f"{path} holds records of schema {record['schema']} and this version of "
            f"pytest-diffspeed reads {SCHEMA} only; use the version that wrote them"
        )
    kind = record.get("kind")
    return record if isinstance(kind, str) and fits(kind, record) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("no double holds this number")
    return value


def _bounded_int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError("no double holds this number")
    return int(digits)


_MOST_DIGITS = 300
"""Of an integer, which Python would read at any length and cannot make a float of (1.8e308)."""

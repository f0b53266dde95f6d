"""The journal of a session: one JSON object a line, flushed as it happens.

``{"schema": "diffspeed/1", "kind": …, ...}``; the kinds and their fields stand in ``schema.json``.
A pair is written before the next one is timed and a verdict before it is raised, so a killed run
loses at most the pair in progress.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..common.files import replace_file

SCHEMA = "diffspeed/1"


class Journal:
    """Appends records to a file that is created with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener: Callable[[dict[str, Any]], None] | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> Journal:
        """A new journal, named by time and process, in ``folder``."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return cls(folder / f"{stamp}-{os.getpid()}.jsonl")

    def write(self, kind: str, **content: Any) -> None:
        """Append one record with a single flushed write."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(as_line({"kind": kind, **content}))
        if self._listener is not None:
            self._listener({"kind": kind, **content})

    @contextmanager
    def told_to(self, listener: Callable[[dict[str, Any]], None]) -> Iterator[None]:
        """Tell ``listener`` each record too, once it is written."""
        before, self._listener = self._listener, listener
        try:
            yield
        finally:
            self._listener = before


def as_line(content: Mapping[str, Any]) -> str:
    """One record as a line of strict JSON (``null`` stands for a number that is not finite)."""
    plain = _finite({"schema": SCHEMA, **content})
    line = json.dumps(plain, ensure_ascii=False, allow_nan=False) + "\n"
    # Half a character, as from a file name that is no UTF-8: as an escape of JSON.
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def write_all(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records to ``path``, replacing what was there only once all are written."""
    replace_file(path, "".join(as_line(record) for record in records))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return value

"""``--diffspeed-json``: all records, one JSON object a line."""

from __future__ import annotations

from pathlib import Path

from ...records.finished import FinishedSession
from ...records.journal import write_all

HELP = "write the records of the session to PATH, a JSON object a line"
MARK = '"schema": "diffspeed/'


def write(target: str, finished: FinishedSession) -> str | None:
    """Write the records that all other reports are made from."""
    write_all(Path(target), finished.records)
    return f"records: {target}"

"""The HTML report: one self-contained file that opens offline."""

from __future__ import annotations

from pathlib import Path

from ...records.finished import FinishedSession
from .page import render

__all__ = ["render", "write"]


def write(target: str, finished: FinishedSession) -> str:
    """Write the report on a session to the file ``target``, the history of its tests beside it.

    Returns the line for the terminal.
    """
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(render(finished.session, finished.rootdir, finished.series), encoding="utf-8")
    part.replace(path)
    return f"report: {target}"

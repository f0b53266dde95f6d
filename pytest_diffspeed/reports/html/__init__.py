"""The HTML report: one self-contained file that opens offline."""

from __future__ import annotations

from pathlib import Path

from ...common.files import replace_file
from ...records.finished import FinishedSession
from .page import render

__all__ = ["render", "write"]


def write(target: str, finished: FinishedSession) -> str:
    """Write the report on a session to the file ``target``, the history of its tests beside it.

    Returns the line for the terminal.
    """
    replace_file(Path(target), render(finished.session, finished.rootdir, finished.series))
    return f"report: {target}"

"""The HTML report: one self-contained file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...records.finished import Finished
from ...records.series import Series
from .page import render

__all__ = ["render", "write"]


def write(target: str, finished: Finished, series: Sequence[Series] = ()) -> str:
    """Write the report on a session that ended to the file ``target``.

    ``series`` is history to show beside it.  Returns the line for the terminal.
    """
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(render(finished.session, finished.rootdir, series), encoding="utf-8")
    part.replace(path)
    return f"report: {target}"

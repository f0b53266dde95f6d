"""Files for github-action-benchmark: its tools ``customBiggerIsBetter`` and
``customSmallerIsBetter``.

Read off the action's source (at c38cce98, March 2026).  A file is a JSON array of objects with
``name`` and ``unit`` (strings), ``value`` (number), and ``range`` and ``extra`` (strings) if there;
everything is *coerced*: ``null`` becomes 0, so it must not be written.  An empty array is an error
of the action.  A figure is found in the previous run by the first entry of the same name, and the
name stands between backticks in a cell of a table.  Which way is better holds for a whole file, so
there are two.
"""

from __future__ import annotations

import json

from .export_format import Exported, Format
from .figures import ExportedFigure


def render(exported: Exported) -> dict[str, str]:
    """The file in which bigger is better, and the one in which smaller is."""
    files: dict[str, str] = {}
    for word, better in (("bigger", "higher"), ("smaller", "lower")):
        entries = [_entry(figure) for figure in exported.figures if figure.better == better]
        if entries:
            files[word] = json.dumps(entries, indent=1) + "\n"
    return files


def _entry(figure: ExportedFigure) -> dict[str, str | float]:
    name = f"{figure.gate}: {figure.name}".replace("`", "'").replace("|", "¦")
    entry: dict[str, str | float] = {
        "name": name,
        "unit": figure.unit,
        "value": figure.value,
        "extra": f"verdict: {figure.verdict}\n{figure.kind}, {figure.better} is better",
    }
    if figure.low is not None or figure.high is not None:
        low = "0" if figure.low is None else f"{figure.low:.3f}"
        high = "∞" if figure.high is None else f"{figure.high:.3f}"
        entry["range"] = f"[{low}, {high}]"
    return entry


FORMATS = (
    Format(
        "github-action-benchmark",
        "two files, for its tools customBiggerIsBetter and customSmallerIsBetter",
        render,
        ("bigger", "smaller"),
    ),
)

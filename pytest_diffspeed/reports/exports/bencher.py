"""Bencher Metric Format, which ``bencher run --adapter json`` reads.

Read off Bencher's JSON adapter and its types (2026): benchmark name → measure → ``value`` with
``lower_value`` and ``upper_value``, all doubles.  The name of a benchmark is 1 to 1024 bytes, and
the endings below make Bencher ignore its alerts; a measure is named by a slug of at most 64
lowercase letters, digits and single hyphens.
"""

from __future__ import annotations

import hashlib
import json

from .export_format import Exported, Format
from .figures import ExportedFigure

LONGEST_NAME = 1024
"""Bytes."""
IGNORED = ("_bencher_ignore", "BencherIgnore", "-bencher-ignore")


def render(exported: Exported) -> dict[str, str]:
    """One file; measures are named ``diffspeed-`` and the figure."""
    report: dict[str, dict[str, dict[str, float]]] = {}
    for figure in exported.figures:
        metric = {"value": figure.value}
        if figure.low is not None:
            metric["lower_value"] = figure.low
        if figure.high is not None:
            metric["upper_value"] = figure.high
        report.setdefault(_name(figure.gate), {})[_measure(figure)] = metric
    return {"": json.dumps(report, indent=1) + "\n"} if report else {}


def _name(name: str) -> str:
    if name.endswith(IGNORED):
        name += "."
    encoded = name.encode("utf-8")
    if len(encoded) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return encoded[: LONGEST_NAME - 13].decode("utf-8", "ignore") + f"-{digest}"


def _measure(figure: ExportedFigure) -> str:
    """A slug.  The unit is Bencher's to set, once a measure."""
    words = "".join(char if char.isascii() and char.isalnum() else " " for char in figure.name)
    return "-".join(["diffspeed", *words.lower().split()])[:64].rstrip("-")


FORMATS = (Format("bencher", "Bencher Metric Format: bencher run --adapter json", render),)

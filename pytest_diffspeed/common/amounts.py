"""Figures of a GPU cost as people read them, in gates, commands and reports."""

from __future__ import annotations

from collections.abc import Sequence


def amount(figure: str, value: int) -> str:
    """``31.7 MB``, ``1.17 G`` (FLOPs) or ``1,997``, by the name of a figure."""
    if "bytes" in figure:
        return _scaled(value, ("B", "kB", "MB", "GB", "TB"))
    if figure.startswith("flops"):
        return _scaled(value, ("", "k", "M", "G", "T", "P")).rstrip()
    return f"{value:,}"


def _scaled(value: float, units: Sequence[str]) -> str:
    for unit in units[:-1]:
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} {units[-1]}"

"""How reports write figures: one format for each kind, and the unit always beside it."""

from __future__ import annotations

from ..common.text import outside, size


def ratio(value: float | None) -> str:
    """``1.612×``."""
    return "unknown" if value is None else f"{value:.3f}×"


def interval(low: float | None, high: float | None) -> str:
    """``[1.548, 1.671]``; an open end is written as such."""
    left = "0" if low is None or low <= 0 else f"{low:.3f}"
    right = "∞" if high is None else f"{high:.3f}"
    return f"[{left}, {right}]"


def ratio_with_interval(value: float | None, low: float | None, high: float | None) -> str:
    """``1.612× [1.548, 1.671]``, or ``1.052× outside [0.987, 1.042]``."""
    return f"{ratio(value)} {outside(value, low, high, ratio)}{interval(low, high)}"


def seconds(value: float | None) -> str:
    """``0.508 s``; three digits, in ms where that reads better."""
    if value is None:
        return ""
    if abs(value) < 0.1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.0f} s" if value >= 1000 else f"{value:.3g} s"


def bytes_of(value: float | None) -> str:
    """``3.42 GiB``, ``12.1 MiB``."""
    return "" if value is None else size(value)


def percent(share: float | None) -> str:
    """``3.1 %``."""
    return "unknown" if share is None else f"{100 * share:.1f} %"

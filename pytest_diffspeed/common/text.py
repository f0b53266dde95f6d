"""Small pieces of sentences that messages everywhere are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def plural(many: int, noun: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{many} {noun}{'' if many == 1 else 's'}"


def first_line(text: object, otherwise: str = "no message") -> str:
    """Of an error or a reason, for where there is one line of room."""
    return next(iter(str(text).strip().splitlines()), otherwise)


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters, the last of them an ellipsis where some are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def listed(words: Sequence[str], most: int = 3) -> str:
    """``a, b, c``; of more than ``most`` the first ones and how many follow."""
    left = len(words) - most
    return ", ".join(words) if left <= 0 else f"{', '.join(words[:most])} and {left} more"


def number(value: float) -> str:
    """Four digits, or all of a whole number: a count that moves by one is seen to move."""
    if value != int(value) or abs(value) >= 2**53:  # beyond it a float has not every whole number
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) >= 1e5 else f"{value:.0f}"


def outside(
    value: float | None, low: float | None, high: float | None, written: Callable[[float], str]
) -> str:
    """The word between a figure and the interval that does not hold it; empty where it does.

    ``None`` is an end that is open. ``written`` is how the three are printed: what differs behind
    the last digit alone is not said.
    """
    if value is None:
        return ""
    below = low is not None and value < low and written(value) != written(low)
    above = high is not None and value > high and written(value) != written(high)
    return "outside " if below or above else ""


def size(many: float) -> str:
    """Bytes as ``0.512 GiB``, or MiB where that is the better unit."""
    return f"{many / 2**30:.3g} GiB" if many >= 2**30 / 10 else f"{many / 2**20:.3g} MiB"

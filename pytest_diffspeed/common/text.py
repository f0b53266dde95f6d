"""Small pieces of sentences that messages everywhere are made of."""

from __future__ import annotations

from collections.abc import Sequence


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


def size(many: float) -> str:
    """Bytes as ``0.512 GiB``, or MiB where that is the better unit."""
    return f"{many / 2**30:.3g} GiB" if many >= 2**30 / 10 else f"{many / 2**20:.3g} MiB"

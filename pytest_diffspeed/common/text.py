"""Small pieces of sentences that messages everywhere are made of."""

from __future__ import annotations


def plural(many: int, noun: str) -> str:
    """``1 gate``, ``2 gates``."""
    return f"{many} {noun}{'' if many == 1 else 's'}"


def first_line(text: object, otherwise: str = "no message") -> str:
    """Of an error or a reason, for where there is one line of room."""
    return next(iter(str(text).strip().splitlines()), otherwise)


def shortened(text: str, most: int) -> str:
    """At most ``most`` characters, the last of them an ellipsis where some are left out."""
    return text if len(text) <= most else f"{text[: most - 1]}…"

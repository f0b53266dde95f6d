"""Text for a page: what is shown of any string, and how figures are written.

Escaping is jinja2's business.  Here is what escaping does not do: characters that show nothing or
turn the text around them are spelt out, and a string of ten thousand characters is cut.
"""

from __future__ import annotations

import re
from typing import Any

MOST_CHARACTERS = 2_000
"""Of one string; a compiler's whole traceback fits, a hostile test name does not."""
NAME_CHARACTERS = 240
"""Of a name in a table."""

# Control characters but tab and newline; those that set the direction of text (Unicode's annex 9)
# or are invisible; halves of surrogate pairs, which cannot be written as UTF-8.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069"
    "\ufeff\ud800-\udfff]"
)


def shown(text: str, most: int = MOST_CHARACTERS) -> str:
    """``text`` with unseen characters spelt out as ``⟨U+202E⟩``, cut after ``most`` characters."""
    left = len(text) - most
    if left > 0:
        text = f"{text[:most]} … ({left} more characters)"
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def name(text: str) -> str:
    """A name, cut to what a table bears."""
    return shown(text, NAME_CHARACTERS)


def plain(value: Any) -> Any:
    """What jinja2 is told to do with each value before it is printed."""
    if value is None:
        return ""
    # Markup, which is a subclass, was made by a template of ours and is clean already.
    return shown(value) if type(value) is str else value


def ratio(value: float | None) -> str:
    """``1.612×``."""
    return "unknown" if value is None else f"{value:.3f}×"


def interval(low: float | None, high: float | None) -> str:
    """``[1.548, 1.671]``; an open end is written as such."""
    left = "0" if low is None or low <= 0 else f"{low:.3f}"
    right = "∞" if high is None else f"{high:.3f}"
    return f"[{left}, {right}]"


def seconds(value: float | None) -> str:
    """``0.508 s``; three digits, in ms where that reads better."""
    if value is None:
        return ""
    if abs(value) < 0.1:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.0f} s" if value >= 1000 else f"{value:.3g} s"


def gibibytes(value: float | None) -> str:
    """``3.42 GiB``."""
    return "" if value is None else f"{value / 2**30:.3g} GiB"


def percent(share: float | None) -> str:
    """``3.1 %``."""
    return "unknown" if share is None else f"{100 * share:.1f} %"

"""Text for a page: what is shown of any string.

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

"""Read figures that may hold anything: the schema of records says only that they are an object.

A report opens files of other versions, of plug-ins and of strangers.  What is not of the kind that
is looked for counts as not there, and nothing raises.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """``value`` if it is an array, else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects in an array."""
    return [inner for inner in sequence(value) if isinstance(inner, Mapping)]


def number(value: Any) -> float | None:
    """A finite number, else ``None``."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        as_float = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return as_float if math.isfinite(as_float) else None


def count(value: Any) -> int | None:
    """A whole number, else ``None``."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def word(value: Any) -> str | None:
    """A string that is not empty, else ``None``."""
    return value if isinstance(value, str) and value else None


def words(value: Any) -> list[str]:
    """The strings in an array."""
    return [inner for inner in sequence(value) if isinstance(inner, str)]

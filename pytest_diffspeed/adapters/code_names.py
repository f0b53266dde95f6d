"""What a function names, as the compiler keeps it in its code object (CPython 3.10 to 3.14)."""

from __future__ import annotations

from types import CodeType


def names_in(code: CodeType, *, strings: bool = False) -> set[str]:
    """Globals and attributes that a function names, and its ``strings``: ``getattr`` takes them."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_in(constant, strings=strings)
        elif strings and isinstance(constant, str):
            names.add(constant)
    return names

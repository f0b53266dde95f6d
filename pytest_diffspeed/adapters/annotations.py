"""What an annotation in diffusers' source allows, read without importing it."""

from __future__ import annotations

import re
from collections.abc import Mapping

_KINDS: Mapping[str, type] = {
    "bool": bool,
    "int": int,
    "float": float,
    "str": str,
    "None": type(None),
    "Optional": type(None),
}


def plain_kinds(annotation: str) -> frozenset[type]:
    """The plain types that ``annotation`` names: of ``bool``, ``int``, ``float``, ``str`` and
    ``NoneType``.
    """
    return frozenset(kind for word, kind in _KINDS.items() if re.search(rf"\b{word}\b", annotation))

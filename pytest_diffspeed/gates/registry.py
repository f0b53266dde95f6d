"""Finds the gates: every module of :mod:`.catalog` that has a ``GATES`` tuple.

Adding a gate adds a file there and edits none.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from . import catalog
from .gate import Gate
from .markers import GateMarker


@functools.cache
def gates() -> Mapping[type[GateMarker], Gate]:
    """All gates of this version, by the marker that asks for them."""
    found: dict[type[GateMarker], Gate] = {}
    for module_info in pkgutil.iter_modules(catalog.__path__):
        module = importlib.import_module(f"{catalog.__name__}.{module_info.name}")
        for gate in getattr(module, "GATES", ()):
            for marker in gate.markers:
                found[marker] = gate
    return MappingProxyType(found)

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
from .marker import GateMarker
from .signatures import signatures


@functools.cache
def gates() -> Mapping[type[GateMarker], Gate]:
    """All gates of this version, by the marker that asks for them.

    Raises:
        TypeError: a marker that pytest does not know, so that its gate would never fire.
    """
    found: dict[type[GateMarker], Gate] = {}
    for module_info in pkgutil.iter_modules(catalog.__path__):
        module = importlib.import_module(f"{catalog.__name__}.{module_info.name}")
        for gate in getattr(module, "GATES", ()):
            for marker in gate.markers:
                if signatures().get(marker.marker) != marker.signature:
                    raise TypeError(
                        f"{module.__file__}: the signature of {marker.__name__} was not found in "
                        "this file, so pytest would ignore the marker; write it into the class as "
                        f"one string: signature: ClassVar[str] = {marker.signature!r}"
                    )
                found[marker] = gate
    return MappingProxyType(found)


def marker_types() -> Mapping[str, type[GateMarker]]:
    """The markers of all gates, by name."""
    return MappingProxyType({marker.marker: marker for marker in gates()})

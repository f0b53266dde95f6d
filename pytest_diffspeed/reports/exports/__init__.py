"""Exports: records in the words of other tools.  One file a format; adding one edits none.

A file with a ``FORMATS`` tuple in this folder is found by its being there.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from .export_format import Format


@functools.cache
def formats() -> Mapping[str, Format]:
    """All formats of this version, by name."""
    found: dict[str, Format] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for one in getattr(module, "FORMATS", ()):
            found[one.name] = one
    return MappingProxyType(dict(sorted(found.items())))

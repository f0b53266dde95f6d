"""Finds the techniques: every module of :mod:`.catalog` that has a ``TECHNIQUES`` tuple.

Adding a technique adds a file there and edits none.  Catalogue modules import torch inside their
methods only, since names are needed when tests are collected.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from ..common.extensions import extensions
from . import catalog
from .technique import Technique


def techniques() -> Mapping[str, Technique]:
    """All techniques by name: those of this package, and those that plug-ins added."""
    added = extensions().techniques
    return MappingProxyType({**own_techniques(), **added}) if added else own_techniques()


@functools.cache
def own_techniques() -> Mapping[str, Technique]:
    """Those of :mod:`.catalog`."""
    found: dict[str, Technique] = {}
    for module_info in pkgutil.iter_modules(catalog.__path__):
        module = importlib.import_module(f"{catalog.__name__}.{module_info.name}")
        for technique in module.TECHNIQUES:
            if technique.name in found:
                raise AssertionError(f"two techniques are called {technique.name!r}")
            found[technique.name] = technique
    return MappingProxyType(found)

"""Finds the recipes: adding a family adds a file to :mod:`.families` and edits none."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

from . import families
from .recipe import ZooRecipe


@functools.cache
def recipes() -> Mapping[str, ZooRecipe]:
    """All recipes by name: those of every module of :mod:`.families` (its ``PIPELINES``)."""
    found: dict[str, ZooRecipe] = {}
    for module_info in pkgutil.iter_modules(families.__path__):
        module = importlib.import_module(f"{families.__name__}.{module_info.name}")
        for name, recipe in module.PIPELINES.items():
            if name in found:
                raise AssertionError(f"two recipes are called {name!r}")
            found[name] = recipe
    return MappingProxyType(dict(sorted(found.items())))

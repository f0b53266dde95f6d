"""Finds the techniques: every module of :mod:`.catalog` that has a ``TECHNIQUES`` tuple, and what
plug-ins add, checked.

Adding a technique adds a file there and edits none.  Catalogue modules import torch inside their
methods only, since names are needed when tests are collected.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ..common.errors import UsageError
from ..common.extensions import Extensions, entry_points, extensions_or
from . import catalog
from .arguments import Parameter
from .technique import Family, Technique

GROUP = "pytest_diffspeed.techniques"
"""Entry points of installed packages: a technique, or a tuple of them."""
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = frozenset({"base", "previous"})


def techniques() -> Mapping[str, Technique]:
    """All techniques by name: those of this package, and those that plug-ins added.

    Raises:
        UsageError: outside of a session, of an installed package whose techniques make no sense.
    """
    added = extensions_or(add_installed_techniques).techniques
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


def add_installed_techniques(added: Extensions) -> None:
    """Add what the entry points of installed packages give.

    Raises:
        UsageError: one of them cannot be loaded, or adds what makes no sense.
    """
    for who, _, loaded in entry_points(GROUP):
        several = isinstance(loaded, (tuple, list))
        add_techniques(added, who, loaded if several else [loaded])


def add_techniques(added: Extensions, who: str, techniques: object) -> None:
    """Check and add.

    Raises:
        UsageError: one is not a technique, or its name is taken.
    """
    if not isinstance(techniques, Iterable) or isinstance(techniques, (str, Mapping)):
        raise UsageError(
            f"{who}: techniques must be a list of Technique instances, not {techniques!r}"
        )
    for technique in techniques:
        if isinstance(technique, type) and issubclass(technique, Technique):
            raise UsageError(
                f"{who}: {technique.__name__} is a class; give an instance, {technique.__name__}()"
            )
        if not isinstance(technique, Technique):
            raise UsageError(
                f"{who}: {technique!r} is not a technique; subclass "
                "pytest_diffspeed.extend.Technique"
            )
        problem = _problem(technique)
        if problem is not None:
            raise UsageError(f"{who}: technique {type(technique).__name__}: {problem}")
        name = technique.name
        added.claim(who, "technique", name, {*own_techniques(), *_RESERVED})
        added.techniques[name] = technique


def _problem(technique: Technique) -> str | None:
    """What is wrong with the class attributes, which nothing else checks."""
    name = getattr(technique, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return (
            f"`name` must be lower-case letters, digits and underscores, such as 'first_block', "
            f"not {name!r}"
        )
    family = getattr(technique, "family", None)
    if not isinstance(family, Family):
        return f"`family` must be one of Family.{', Family.'.join(Family.__members__)}"
    if not isinstance(getattr(technique, "summary", None), str):
        return "`summary` must be a line of text"
    changes = technique.changes
    if changes is not None and not isinstance(changes, frozenset):
        return f"`changes` must be a frozenset of component names or None, not {changes!r}"
    parameters = technique.parameters
    if not isinstance(parameters, Mapping) or not all(
        isinstance(key, str) and key.isidentifier() and isinstance(value, Parameter)
        for key, value in parameters.items()
    ):
        return f"`parameters` must map names to a Parameter, not {parameters!r}"
    return None

"""Checks what plug-ins add, and adds it.  Workers load it too, so it knows no pytest.

Each plug-in is asked on its own, so that an error names it.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping

from ..common.errors import UsageError
from ..common.extensions import Extensions
from ..techniques.arguments import Parameter
from ..techniques.registry import own_techniques
from ..techniques.technique import Family, Technique

GROUPS = {"pytest_diffspeed.techniques": "technique", "pytest_diffspeed.sources": "source"}
_TECHNIQUE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PREFIX = re.compile(r"[a-z][a-z0-9_-]+")  # one letter would be a Windows drive
_RESERVED_PREFIXES = frozenset({"demo", "random"})
_RESERVED_TECHNIQUES = frozenset({"base", "previous"})


def add_installed(added: Extensions) -> None:
    """Add what the entry points of installed packages give.

    Raises:
        UsageError: one of them cannot be loaded, or adds what makes no sense.
    """
    for group, kind in GROUPS.items():
        for point in importlib.metadata.entry_points(group=group):
            package = "?" if point.dist is None else point.dist.name
            who = f"package {package!r} (entry point {point.name!r} of {group})"
            try:
                loaded = point.load()
            except Exception as error:
                raise UsageError(
                    f"{who} cannot be loaded: {type(error).__name__}: {error}; repair or uninstall "
                    "it"
                ) from error
            if kind == "technique":
                several = isinstance(loaded, (tuple, list))
                add_techniques(added, who, loaded if several else [loaded])
            else:
                add_sources(added, who, {point.name: loaded})


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
        _require_free(added, who, "technique", name, {*own_techniques(), *_RESERVED_TECHNIQUES})
        added.techniques[name] = technique


def _problem(technique: Technique) -> str | None:
    """What is wrong with the class attributes, which nothing else checks."""
    name = getattr(technique, "name", None)
    if not isinstance(name, str) or not _TECHNIQUE_NAME.fullmatch(name):
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


def add_sources(added: Extensions, who: str, sources: object) -> None:
    """Check and add.

    Raises:
        UsageError: one is no callable, or its prefix is taken.
    """
    if not isinstance(sources, Mapping):
        raise UsageError(f"{who}: sources must be a mapping of prefix to callable, not {sources!r}")
    for prefix, make in sources.items():
        if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
            raise UsageError(
                f"{who}: a source's prefix must be at least two lower-case letters, digits, '-' or "
                f"'_', such as 'store', not {prefix!r}"
            )
        if not callable(make):
            raise UsageError(
                f"{who}: source {prefix!r} must be a callable that takes the text after "
                f"'{prefix}:' and returns a PipelineSource, not {make!r}"
            )
        _require_free(added, who, "source", prefix, _RESERVED_PREFIXES)
        added.sources[prefix] = make


def _require_free(added: Extensions, who: str, kind: str, name: str, own: Iterable[str]) -> None:
    key = f"{kind} {name}"
    if name in own:
        raise UsageError(
            f"{who}: the {kind} {name!r} is pytest-diffspeed's own; choose another name"
        )
    if key in added.added_by:
        raise UsageError(
            f"{who}: {added.added_by[key]} has a {kind} {name!r} already; rename or disable one"
        )
    added.added_by[key] = who

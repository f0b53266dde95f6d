"""Pipeline sources that plug-ins add, by their prefix; checked.

Each plug-in is asked on its own, so that an error names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from ..common.errors import UsageError
from ..common.extensions import Extensions, entry_points, extensions_or

GROUP = "pytest_diffspeed.sources"
"""Entry points of installed packages, whose names are the prefixes."""
_PREFIX = re.compile(r"[a-z][a-z0-9_-]+")  # one letter would be a Windows drive
_RESERVED = frozenset({"demo", "random"})


def added_sources() -> Mapping[str, Callable[[str], Any]]:
    """By prefix, what makes a source of the text after it.

    Raises:
        UsageError: outside of a session, of an installed package whose source makes no sense.
    """
    return MappingProxyType(extensions_or(add_installed_sources).sources)


def add_installed_sources(added: Extensions) -> None:
    """Add what the entry points of installed packages give.

    Raises:
        UsageError: one of them cannot be loaded, or adds what makes no sense.
    """
    for who, prefix, make in entry_points(GROUP):
        add_sources(added, who, {prefix: make})


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
        added.claim(who, "source", prefix, _RESERVED)
        added.sources[prefix] = make

"""What plug-ins add: for as long as the session that loaded them lasts, or what is installed.

Names of techniques and sources are looked up far from any session (in a stack, in a source's text,
in ``apply_stack`` without pytest), so what was added is ambient: a context variable, which each
session sets to its own and sets back at its end.  A session inside another one sees none of the
outer one's.  Outside of any session (a script, a command, a worker process) it is what the entry
points of installed packages give, loaded when a name is looked up for the first time.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from .errors import UsageError


@dataclass
class Extensions:
    """``sources`` maps a prefix to what makes a source of the text after ``prefix:``.

    What a technique and a source are, this file does not know: ``techniques/registry.py`` and
    ``pipelines/added_sources.py`` check what is added.
    """

    techniques: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Callable[[str], Any]] = field(default_factory=dict)
    added_by: dict[str, str] = field(default_factory=dict)
    """Who added it, for ``"technique NAME"`` and ``"source PREFIX"``."""

    def claim(self, who: str, kind: str, name: str, own: Iterable[str]) -> None:
        """Note that ``who`` adds the technique or source (``kind``) called ``name``.

        Raises:
            UsageError: the name is one of ``own``, this package's, or another plug-in's.
        """
        key = f"{kind} {name}"
        if name in own:
            raise UsageError(
                f"{who}: the {kind} {name!r} is pytest-diffspeed's own; choose another name"
            )
        if key in self.added_by:
            raise UsageError(
                f"{who}: {self.added_by[key]} has a {kind} {name!r} already; rename or disable one"
            )
        self.added_by[key] = who


_OUTSIDE = Extensions()
_CURRENT: ContextVar[Extensions] = ContextVar("diffspeed_extensions", default=_OUTSIDE)


def extensions() -> Extensions:
    """What the session at this moment has; nothing outside of one."""
    return _CURRENT.get()


def extensions_or(add_installed: Callable[[Extensions], None]) -> Extensions:
    """What the session at this moment has; outside of one, what ``add_installed`` adds."""
    current = _CURRENT.get()
    return installed(add_installed) if current is _OUTSIDE else current


@functools.cache
def installed(add: Callable[[Extensions], None]) -> Extensions:
    """What ``add`` adds, once in this process."""
    found = Extensions()
    add(found)
    return found


def use(added: Extensions) -> Callable[[], None]:
    """Make ``added`` what :func:`extensions` gives; call the result to go back."""
    before = _CURRENT.get()
    _CURRENT.set(added)

    def back() -> None:
        _CURRENT.set(before)

    return back


def entry_points(group: str) -> Iterator[tuple[str, str, Any]]:
    """What installed packages have under ``group``: who says so, the entry point's name, and what
    it gives.

    Raises:
        UsageError: one cannot be loaded; names it.
    """
    for point in importlib.metadata.entry_points(group=group):
        package = "?" if point.dist is None else point.dist.name
        who = f"package {package!r} (entry point {point.name!r} of {group})"
        try:
            loaded = point.load()
        except Exception as error:
            raise UsageError(
                f"{who} cannot be loaded: {type(error).__name__}: {error}; repair or uninstall it"
            ) from error
        yield who, point.name, loaded

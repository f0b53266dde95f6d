"""What plug-ins added, for as long as the session that loaded them lasts.

Names of techniques and sources are looked up far from any session (in a stack, in a source's text,
in ``apply_stack`` without pytest), so what was added is ambient: a context variable, which each
session sets to its own and sets back at its end.  A session inside another one sees none of the
outer one's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Extensions:
    """``sources`` maps a prefix to what makes a source of the text after ``prefix:``.

    What a technique and a source are, this file does not know, since both look things up here:
    :mod:`pytest_diffspeed.extend.installed` checks what it adds.
    """

    techniques: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Callable[[str], Any]] = field(default_factory=dict)
    added_by: dict[str, str] = field(default_factory=dict)
    """Who added it, for ``"technique NAME"`` and ``"source PREFIX"``."""


_NONE = Extensions()
_CURRENT: ContextVar[Extensions] = ContextVar("diffspeed_extensions", default=_NONE)


def extensions() -> Extensions:
    """What is added at this moment."""
    return _CURRENT.get()


def use(added: Extensions) -> Callable[[], None]:
    """Make ``added`` what :func:`extensions` gives; call the result to go back."""
    before = _CURRENT.get()
    _CURRENT.set(added)

    def back() -> None:
        _CURRENT.set(before)

    return back

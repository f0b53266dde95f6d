"""Put other attributes on modules and classes for a while, and take every one of them back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

_NOTHING = object()


def replaced(stack: ExitStack, owner: Any, values: Iterable[tuple[str, Any]]) -> None:
    """Set attributes of ``owner``; closing ``stack`` puts back what was in its own ``__dict__``."""
    for name, value in values:
        before = vars(owner).get(name, _NOTHING)
        stack.callback(_restore, owner, name, before)
        setattr(owner, name, value)


def _restore(owner: Any, name: str, before: object) -> None:
    if before is _NOTHING:
        delattr(owner, name)
    else:
        setattr(owner, name, before)

"""What this package uses of pytest that pytest does not promise to keep.  Imports nothing."""

from __future__ import annotations

from typing import Any


def fixture_module(item: Any, name: str) -> str | None:
    """The module of the function behind a fixture that a test takes; ``None`` if it is unknown.

    ``item._fixtureinfo.name2fixturedefs``, whose last definition is the closest, seen in pytest 8
    and 9.
    """
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    definitions = known.get(name)
    return definitions[-1].func.__module__ if definitions else None

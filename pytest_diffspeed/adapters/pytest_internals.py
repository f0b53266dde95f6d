"""What this package uses of pytest that pytest does not promise to keep.  Imports nothing heavy."""

from __future__ import annotations

import os
from typing import Any


def fixture_module(item: Any, name: str) -> str | None:
    """The module of the function behind a fixture that a test takes; ``None`` if it is unknown.

    ``item._fixtureinfo.name2fixturedefs``, whose last definition is the closest, seen in pytest 8
    and 9.
    """
    function = _function(item, name)
    return None if function is None else function.__module__


def fixture_place(item: Any, name: str) -> str:
    """Where that function stands: ``conftest.py:12``, its file from the root of the session on."""
    code = getattr(_function(item, name), "__code__", None)
    if code is None:
        return "(unknown)"
    root = f"{item.config.rootpath}{os.sep}"
    return f"{str(code.co_filename).removeprefix(root)}:{code.co_firstlineno}"


def _function(item: Any, name: str) -> Any:
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    definitions = known.get(name)
    return definitions[-1].func if definitions else None

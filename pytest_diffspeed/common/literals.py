"""Strings that the files of a folder declare, read without importing the files.

What every pytest session needs of a folder (the markers of gates, the options of reports) is read
in less than a millisecond; importing the files would take a hundred times as long.
"""

from __future__ import annotations

import ast
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def literals(folder: ModuleType, name: str) -> Iterator[tuple[str, list[str] | None]]:
    """Each module of ``folder`` (a package), with the strings that it assigns to ``name``.

    ``None`` in their place where the module assigns something else than a string, or nothing, or
    has no source here: whoever needs it has to import it.
    """
    # Begins with the name, for which regular expressions search fast: a line's beginning is slow.
    assigned = re.compile(rf"{name}\b[^=\n]*=(?!=)")
    for found in pkgutil.iter_modules(folder.__path__):
        module = f"{folder.__name__}.{found.name}"
        source = _source(found)
        found_at = [at for at in assigned.finditer(source) if _begins_line(source, at.start())]
        texts = [_string(source[at.end() :]) for at in found_at]
        strings = [text for text in texts if text is not None]
        yield module, strings if strings and len(strings) == len(texts) else None


def _begins_line(source: str, at: int) -> bool:
    """Whether nothing but blanks stands before ``at`` in its line."""
    return not source[source.rfind("\n", 0, at) + 1 : at].strip(" \t")


def _source(found: pkgutil.ModuleInfo) -> str:
    """The text of a module; empty where it is compiled only."""
    finder: Any = found.module_finder
    loader = finder.find_spec(found.name, None).loader
    source: str | None = getattr(loader, "get_source", lambda _: None)(found.name)
    return source or ""


_BLANK = re.compile(r"(?:\s|#[^\n]*\n)*")
_PART = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")


def _string(text: str) -> str | None:
    """The string literal that ``text`` begins with: in brackets and several parts, or one."""
    at = len(text) - len(text.lstrip(" \t"))
    in_brackets = text.startswith("(", at)
    at += in_brackets
    parts: list[str] = []
    while True:
        if in_brackets:
            at = _past(_BLANK, text, at)
        end = _past(_PART, text, at)
        if end == at:
            break
        part = text[at:end]
        parts.append(ast.literal_eval(part) if "\\" in part else part[1:-1])
        at = end
    ends = text.startswith(")", at) if in_brackets else _ENDED.match(text, at) is not None
    return "".join(parts) if parts and ends else None


_ENDED = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()

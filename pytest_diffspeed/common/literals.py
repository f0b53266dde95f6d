"""Strings that the files of a folder declare, read without importing the files.

What every pytest session needs of a folder (the markers of gates, the options of reports) is read
in less than a millisecond; importing the files would take a hundred times as long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

# Without regular expressions and pkgutil: compiling and importing them takes longer than all of it.


def literals(folder: ModuleType, name: str) -> Iterator[tuple[str, list[str] | None]]:
    """Each module of ``folder`` (a package), with the strings that it assigns to ``name``.

    ``None`` in their place where the module assigns something else than a string, or nothing, or
    has no source here: whoever needs it has to import it.
    """
    for module, path in _modules(folder):
        source = _source(path)
        texts = [_string(source, at) for at in _assignments(source, name)]
        strings = [text for text in texts if text is not None]
        named = f"{folder.__name__}.{module}"
        yield named, strings if strings and len(strings) == len(texts) else None


def _modules(folder: ModuleType) -> Iterator[tuple[str, str | None]]:
    """The modules of a package by name, each with the path of its source."""
    found: dict[str, str | None] = {}
    for place in folder.__path__:
        if not os.path.isdir(place):  # in an archive
            import pkgutil

            found |= {module.name: None for module in pkgutil.iter_modules([place])}
            continue
        for entry in sorted(os.listdir(place)):
            name, dot, ending = entry.partition(".")
            if ending == "py" and name != "__init__":
                found[name] = os.path.join(place, entry)
            elif ending and name and dot and entry.endswith((".pyc", ".so", ".pyd")):
                found.setdefault(name, None)
    yield from found.items()


def _source(path: str | None) -> str:
    """The text of a module; empty where it is compiled only."""
    if path is None:
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def _assignments(source: str, name: str) -> Iterator[int]:
    """Where the values begin that ``source`` assigns to ``name``, annotated or not."""
    at = source.find(name)
    while at >= 0:
        end = at + len(name)
        line_end = source.find("\n", end)
        line = source[end : line_end if line_end >= 0 else len(source)]
        before, equals, after = line.partition("=")
        is_whole = not (line[:1].isalnum() or line[:1] == "_")
        if is_whole and equals and not after.startswith("=") and _begins_line(source, at):
            yield end + len(before) + 1
        at = source.find(name, end)


def _begins_line(source: str, at: int) -> bool:
    """Whether nothing but blanks stands before ``at`` in its line."""
    return not source[source.rfind("\n", 0, at) + 1 : at].strip(" \t")


def _string(source: str, at: int) -> str | None:
    """The string literal that begins at ``at``: in brackets and several parts, or one."""
    at = _past_blanks(source, at, " \t")
    in_brackets = source.startswith("(", at)
    at += in_brackets
    parts: list[str] = []
    while True:
        if in_brackets:
            at = _past_blanks(source, at, " \t\r\n", comments=True)
        end = _past_string(source, at)
        if end == at:
            break
        parts.append(_value(source[at:end]))
        at = end
    if not parts:
        return None
    if in_brackets:
        return "".join(parts) if source.startswith(")", at) else None
    at = _past_blanks(source, at, " \t")
    return "".join(parts) if at == len(source) or source[at] in "#\r\n" else None


def _past_blanks(source: str, at: int, blanks: str, *, comments: bool = False) -> int:
    while at < len(source):
        if source[at] in blanks:
            at += 1
        elif comments and source[at] == "#":
            at = source.find("\n", at) + 1 or len(source)
        else:
            break
    return at


def _past_string(source: str, at: int) -> int:
    """Behind the string of one line that begins at ``at``; ``at`` where none does."""
    quote = source[at : at + 1]
    if quote not in ("'", '"'):
        return at
    end = at + 1
    while end < len(source) and source[end] != "\n":
        if source[end] == quote:
            return end + 1
        end += 2 if source[end] == "\\" else 1
    return at


def _value(text: str) -> str:
    if "\\" not in text:
        return text[1:-1]
    import ast

    return str(ast.literal_eval(text))

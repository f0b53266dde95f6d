"""The tables of ``docs/records.md``, made from the schema: run this file to write them again.

``python -m pytest_diffspeed.records.document docs/records.md``
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .schema import kinds, schema

BEGIN, END = "<!-- made from schema.json: begin -->", "<!-- end -->"


def tables() -> str:
    """A section for each kind of record, in alphabetical order, then metrics and figures."""
    definitions = schema()["definitions"]
    lines: list[str] = []
    for kind in sorted(kinds()):
        lines += _section(f"`{kind}`", definitions[kind])
    own = (
        ("Cause of a failure", "cause"),
        ("Metrics of a gate", "metric"),
        ("Figures of a gate", "figures"),
    )
    for title, name in own:
        lines += _section(title, definitions[name])
    return "\n".join(lines)


def _section(title: str, definition: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"### {title}", "", definition["description"], "")
    yield from ("| field | type | meaning |", "|---|---|---|")
    needed = definition.get("required", ())
    for name, field in definition["properties"].items():
        resolved = _resolved(field)
        shown = f"`{name}`" if name in needed or not needed else f"`{name}` (optional)"
        yield f"| {shown} | {_type(resolved)} | {_cell(resolved.get('description', ''))} |"
    yield ""


def _resolved(field: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = field.get("$ref")
    if reference is None:
        return field
    found: Mapping[str, Any] = schema()["definitions"][reference.rpartition("/")[2]]
    return found


def _type(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join("null" if value is None else f"`{value}`" for value in field["enum"])
    kinds_of = field.get("type", "any")
    return kinds_of if isinstance(kinds_of, str) else " or ".join(kinds_of)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def written_into(document: str) -> str:
    """``document`` with the tables between its two marks.

    Raises:
        ValueError: it has no such marks.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"it must hold {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(written_into(path.read_text(encoding="utf-8")), encoding="utf-8")

"""The JSON Schema of a record, ``schema.json`` beside this file: the one place that says what a
record holds.  Whatever reads records checks them against it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import fastjsonschema


@functools.cache
def schema() -> dict[str, Any]:
    """The whole schema (draft 7), for one line."""
    text = resources.files(__package__).joinpath("schema.json").read_text(encoding="utf-8")
    whole: dict[str, Any] = json.loads(text)
    return whole


@functools.cache
def kinds() -> frozenset[str]:
    """The kinds of records that this version knows."""
    return frozenset(rule["if"]["properties"]["kind"]["const"] for rule in schema()["allOf"])


def fits(kind: str, record: Mapping[str, Any]) -> bool:
    """Whether a record has what its kind must have; a kind that is not known may hold anything."""
    if kind not in kinds():
        return True
    try:
        _check_of(kind)(record)
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


@functools.cache
def _check_of(kind: str) -> Callable[[Mapping[str, Any]], object]:
    """One kind alone is compiled: a journal of a hundred thousand lines is checked in a second."""
    check: Callable[[Mapping[str, Any]], object] = fastjsonschema.compile(
        {
            "$schema": schema()["$schema"],
            "definitions": schema()["definitions"],
            "$ref": f"#/definitions/{kind}",
        }
    )
    return check

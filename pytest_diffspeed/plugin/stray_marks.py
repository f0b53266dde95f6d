"""Marks of ours that stand where pytest reads none: such a gate could never fire."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

import pytest

from .public_names import signatures

MARKS = "pytestmark"
"""Where pytest keeps the marks of a function, and reads those of a class or a module."""


def refuse_stray_marks(collector: pytest.Collector, report: pytest.CollectReport) -> None:
    """Turn the report on a module or class into an error if a mark of ours in it marks no test."""
    holder = getattr(collector, "obj", None)
    if holder is None or not isinstance(collector, (pytest.Module, pytest.Class)):
        return
    problems = [*_on_functions(collector, holder, report.result), *_misspelt(collector, holder)]
    if problems:
        report.outcome = "failed"
        report.longrepr = "diffspeed usage error\n" + "\n".join(problems)
        report.result = []


def _on_functions(collector: Any, holder: Any, result: Iterable[Any]) -> Iterator[str]:
    """Functions of this module or class with a mark of ours which pytest does not collect."""
    collected = set[Any]()
    for item in result:
        function = getattr(item, "function", None)
        while function is not None:  # what a decorator wraps is called by the test
            collected.add(function)
            function = getattr(function, "__wrapped__", None)
    module = holder.__name__ if inspect.ismodule(holder) else holder.__module__
    for name, function in vars(holder).items():
        if not isinstance(function, FunctionType) or function.__module__ != module:
            continue
        marks = _ours(getattr(function, MARKS, None))
        if marks and function not in collected and getattr(function, "__test__", True):
            place = f"{collector.path.name}:{function.__code__.co_firstlineno}"
            yield (
                f"{place}: {name}: it is marked {', '.join(marks)} and is no test that pytest "
                "collects, so nothing would be checked; mark the test itself, or give it a name "
                "that pytest collects"
            )


def _misspelt(collector: Any, holder: Any) -> Iterator[str]:
    """Names that are nearly ``pytestmark`` and hold marks of ours: pytest reads that name only."""
    for name, value in vars(holder).items():
        near = difflib.SequenceMatcher(None, name.lower(), MARKS).ratio() > 0.85
        marks = _ours(value) if near and name != MARKS else []
        if marks:
            yield (
                f"{collector.path.name}: `{name}` holds {', '.join(marks)}, and pytest reads marks "
                f"of a module or class from `{MARKS}` only; rename it"
            )


def _ours(value: Any) -> list[str]:
    """The names of our marks in a mark, or in a list of marks."""
    many = value if isinstance(value, (list, tuple)) else [value]
    names = dict.fromkeys(getattr(one, "name", None) for one in many)
    return [name for name in names if isinstance(name, str) and name in signatures()]

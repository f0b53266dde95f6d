"""The schedulers of the installed diffusers, and what each can be made with.

Read from diffusers' source: names are needed when tests are collected, and importing diffusers
imports torch.  That schedulers are classes over ``SchedulerMixin`` in files ``scheduling_*.py`` of
``diffusers/schedulers``, with annotated arguments, was seen in diffusers 0.39.0 and 0.42.1.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ..common.errors import UsageError
from .annotations import plain_kinds
from .tested import DIFFUSERS

_CLASS = re.compile(r"^class (\w+)\(([^)]*)\)", re.MULTILINE)
_MIXIN = "SchedulerMixin"


@dataclass(frozen=True)
class SchedulerArgument:
    """One argument of a scheduler's ``__init__``, by its annotation.

    ``kinds`` are the plain types that it may have, of ``bool``, ``int``, ``float``, ``str`` and
    ``NoneType``; empty where the annotation names none of them.  ``choices`` are those of an
    annotation ``Literal[…]``, empty where there is none.
    """

    kinds: frozenset[type]
    choices: tuple[object, ...]


def scheduler_names() -> tuple[str, ...]:
    """The classes of the installed diffusers that step, by name, without importing it.

    Raises:
        UsageError: diffusers is not installed, or keeps its schedulers elsewhere.
    """
    return tuple(_files())


@functools.cache
def scheduler_arguments(name: str) -> Mapping[str, SchedulerArgument]:
    """The arguments of ``__init__`` of the scheduler ``name``, one of :func:`scheduler_names`.

    Raises:
        UsageError: its source has no such method.
    """
    tree = ast.parse(_files()[name].read_text(encoding="utf-8"))
    for made in tree.body:
        if isinstance(made, ast.ClassDef) and made.name == name:
            for method in made.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    return MappingProxyType(_arguments(method))
    raise _moved(f"{name} has no __init__ of its own")


def _arguments(method: ast.FunctionDef) -> dict[str, SchedulerArgument]:
    given = (*method.args.args[1:], *method.args.kwonlyargs)
    return {one.arg: _argument(one.annotation) for one in given}


def _argument(annotation: ast.expr | None) -> SchedulerArgument:
    if annotation is None:
        return SchedulerArgument(frozenset(), ())
    choices: list[object] = []
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
            listed = ast.literal_eval(node.slice)
            choices += listed if isinstance(listed, tuple) else (listed,)
    kinds = plain_kinds(ast.unparse(annotation)).union(map(type, choices))
    return SchedulerArgument(kinds, tuple(choices))


@functools.cache
def _files() -> Mapping[str, Path]:
    """By the name of the class, its file."""
    spec = importlib.util.find_spec("diffusers")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("diffusers is not installed, so no scheduler is known; install it")
    folder = Path(next(iter(spec.submodule_search_locations))) / "schedulers"
    found = {
        name: file
        for file in sorted(folder.glob("scheduling_*.py"))
        for name, bases in _CLASS.findall(file.read_text(encoding="utf-8"))
        if _MIXIN in bases and not name.startswith(("Flax", "_"))
    }
    if not found:
        raise _moved(f"no class over {_MIXIN} is in {folder.name}/")
    return MappingProxyType(dict(sorted(found.items())))


def _moved(what: str) -> UsageError:
    return UsageError(
        f"the installed diffusers keeps its schedulers in another way than this version of "
        f"pytest-diffspeed reads ({what}); it was tested with diffusers {DIFFUSERS}"
    )

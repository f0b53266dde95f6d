"""What of a callable is compiled: all of it, or parts by themselves; and its uncompiled form.

Compiled modules are looked at in their uncompiled form: explaining what is compiled already finds
nothing.  While a look is open the marks of earlier compilations are masked, on the instances only,
and everything is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from ..adapters.attributes import replaced
from ..adapters.dynamo import compiled_in_place, original_of, plain_call
from ..adapters.dynamo_fullgraph import compiled_with_fullgraph
from ..adapters.module_state import COMPILED_CALL, hooks_around_forward

Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Mark:
    """One attribute that an earlier compilation set, and the uncompiled callable behind it."""

    owner: object
    attribute: str
    compiled: Any
    original: Callable[..., Any] | None
    """``None``: without the attribute the owner is uncompiled."""
    label: str

    def is_whole(self, module: torch.nn.Module) -> bool:
        """Whether what it compiled is ``module`` itself, and not one of its methods or modules."""
        return self.owner is module and self.attribute in (COMPILED_CALL, "forward")


@dataclass(frozen=True)
class Target:
    """A callable to look at.

    ``whole`` is the uncompiled callable; ``regions`` are the parts that are compiled by themselves
    where the whole is not; ``marks`` are all earlier compilations, regions or not.
    """

    whole: Callable[..., Any]
    how: str
    regions: tuple[Mark, ...]
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    fullgraph: bool
    """Whether it is compiled with ``fullgraph=True``, or not compiled yet."""

    @contextmanager
    def prepared(self, compile_: Compile) -> Iterator[Callable[..., Any]]:
        """What to call so that everything that is (or would be) compiled goes through ``compile_``.

        All earlier compilations are masked meanwhile.
        """
        with ExitStack() as stack:
            for mark in self.marks:
                value: Any = mark.original
                if mark in self.regions:
                    value = compile_(_callable_of(mark))
                stack.enter_context(replaced(mark.owner, mark.attribute, value))
            yield self.whole if self.regions else compile_(self.whole)

    @contextmanager
    def uncompiled(self) -> Iterator[Callable[..., Any]]:
        """What runs all of it eagerly."""
        with ExitStack() as stack:
            for mark in self.marks:
                stack.enter_context(replaced(mark.owner, mark.attribute, mark.original))
            yield self.whole


def target_of(fn: Callable[..., Any]) -> Target:
    """How ``fn`` is compiled, or would be."""
    how = "whole"
    whole = fn
    while (original := original_of(whole)) is not None:
        whole, how = original, "whole, under torch.compile"
    fullgraph = whole is fn or compiled_with_fullgraph(fn)
    owner = whole if isinstance(whole, torch.nn.Module) else getattr(whole, "__self__", None)
    if not isinstance(owner, torch.nn.Module):
        return Target(whole, how, (), (), (), fullgraph)
    marks = tuple(_marks(owner))
    if whole is owner and compiled_in_place(owner):
        how = "whole, compiled in place"
        whole = plain_call(owner)
        fullgraph = compiled_with_fullgraph(vars(owner)[COMPILED_CALL])
    own = [mark for mark in marks if mark.owner is owner]
    inner = tuple(mark for mark in marks if mark.owner is not owner)
    if whole is owner and how == "whole":
        # `module.forward = torch.compile(module.forward)`: the module's call is not compiled, what
        # it calls is.
        inner = tuple(mark for mark in marks if mark.attribute == "forward" or mark in inner)
    regions = inner if how == "whole" else ()
    if regions:
        names = sorted({mark.label for mark in regions})
        parts = "1 part" if len(regions) == 1 else f"{len(regions)} parts"
        how = f"regional: {parts} compiled by themselves ({', '.join(names)})"
        # One setting for all of them: where one would break, that one decides.
        fullgraph = all(compiled_with_fullgraph(mark.compiled) for mark in regions)
    notes = _hook_notes(owner)
    all_marks = (*own, *(mark for mark in inner if mark not in own))
    return Target(whole, how, regions, all_marks, notes, fullgraph)


def _callable_of(mark: Mark) -> Callable[..., Any]:
    if mark.original is not None:
        return mark.original
    assert isinstance(mark.owner, torch.nn.Module)
    return plain_call(mark.owner)


def outermost_marks(owner: torch.nn.Module) -> list[Mark]:
    """What is compiled of a module, without what lies inside something compiled."""
    found: list[Mark] = []
    inside: set[int] = set()
    for mark in _marks(owner):  # parents come before their children
        if id(mark.owner) in inside:
            continue
        found.append(mark)
        assert isinstance(mark.owner, torch.nn.Module)
        inside.update(id(part) for part in mark.owner.modules() if part is not mark.owner)
    return found


def _marks(owner: torch.nn.Module) -> Iterator[Mark]:
    for module in owner.modules():
        wrapped = original_of(module)
        if wrapped is not None:  # torch.compile(child), put where the child was
            yield Mark(module, "forward", module.forward, wrapped, type(wrapped).__name__)
            continue
        if compiled_in_place(module):
            implementation = vars(module)[COMPILED_CALL]
            yield Mark(module, COMPILED_CALL, implementation, None, type(module).__name__)
        for name, value in vars(module).items():
            original = None if name.startswith("_") else original_of(value)
            if original is not None and not isinstance(value, torch.nn.Module):
                yield Mark(module, name, value, original, f"{type(module).__name__}.{name}")


def _hook_notes(owner: torch.nn.Module) -> tuple[str, ...]:
    """Hooks that replace or surround the forward of modules: offload, caches, the user's own."""
    found: dict[str, int] = {}
    for module in owner.modules():
        for kind in hooks_around_forward(module):
            found[kind] = found.get(kind, 0) + 1
    return tuple(
        f"{kind} on {count} of its modules; such hooks may break the graph or move weights between "
        "devices inside it"
        for kind, count in sorted(found.items())
    )

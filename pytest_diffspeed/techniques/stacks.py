"""Stacks: ``a+b+c`` in one canonical order, contradictions refused."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ..common.errors import UnknownStackError, nearest
from .registry import techniques
from .technique import Technique

BASELINE_NAME = "fp32"


@dataclass(frozen=True)
class Stack:
    """Techniques in canonical order.  The baseline is the stack ``fp32``.

    ``fp32`` is what a stack without another precision runs in, so ``fp32+compile`` and ``compile``
    are the same stack, called ``compile``.
    """

    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return "+".join(self.names)

    @property
    def is_baseline(self) -> bool:
        return self.names == (BASELINE_NAME,)

    def techniques(self) -> tuple[Technique, ...]:
        """The technique objects, in the order in which they are applied."""
        known = techniques()
        return tuple(known[name] for name in self.names)

    def changed_components(self) -> frozenset[str] | None:
        """Components that differ from the baseline's, or ``None`` where all do."""
        changed: frozenset[str] = frozenset()
        for technique in self.techniques():
            if technique.changes is None:
                return None
            changed |= technique.changes
        return changed

    def __str__(self) -> str:
        return self.name


PREVIOUS = Stack(("previous",))
"""Stands for "the stack before this one in the test's marker", in ``over="previous"`` only."""
BASE = Stack(("base",))
"""Stands for "the same stack in the base that this tree is compared with", in ``over="base"``."""


def parse_stack(text: str) -> Stack:
    """Read ``"compile+bf16"``; order and spaces do not matter.

    Raises:
        UnknownStackError: a part is empty, unknown, named twice, or contradicts another.
    """
    known = techniques()
    parts = [part.strip() for part in text.split("+")]
    for part in parts:
        if not part:
            raise UnknownStackError(
                "a stack is technique names joined by '+', such as 'bf16+compile'"
            )
        if part not in known:
            raise UnknownStackError(f"no technique is called {part!r}; {nearest(part, known)}")
        if parts.count(part) > 1:
            raise UnknownStackError(f"it names {part!r} twice")
    chosen = sorted((known[part] for part in parts), key=lambda t: (t.family, t.name))
    for first, second in itertools.pairwise(chosen):
        if first.family == second.family:
            family = first.family.name.lower()
            raise UnknownStackError(
                f"{first.name!r} and {second.name!r} are both of the family {family!r} and "
                "contradict each other; keep one"
            )
    names = [technique.name for technique in chosen]
    for technique in chosen:
        for other, reason in technique.contradicts.items():
            if other in names:
                raise UnknownStackError(
                    f"{technique.name!r} and {other!r} contradict each other: {reason}; keep one"
                )
    if len(names) > 1 and BASELINE_NAME in names:
        names.remove(BASELINE_NAME)
    return Stack(tuple(names))


def parse_stacks(text: str) -> tuple[Stack, ...]:
    """Read the comma-separated list of ``--diffspeed-techniques``; no stack may come twice."""
    stacks = tuple(parse_stack(part) for part in text.split(",") if part.strip())
    if not stacks:
        raise UnknownStackError("it names no stack; write for example 'bf16,bf16+compile'")
    for stack in stacks:
        if stacks.count(stack) > 1:
            raise UnknownStackError(f"it names the stack {stack.name!r} twice")
    return stacks

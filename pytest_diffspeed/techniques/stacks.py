"""Stacks: ``a+b+c`` in one canonical order, contradictions refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from ..common.arguments import shown
from ..common.errors import UnknownStackError, WrongTypeError, nearest
from .arguments import name_and_arguments, split
from .registry import techniques
from .technique import Technique

BASELINE_NAME = "fp32"


@dataclass(frozen=True)
class Stack:
    """Techniques in canonical order.  The baseline is the stack ``fp32``; of a stack that carries
    an adapter it is ``lora(…)``, the same model in fp32.

    ``fp32`` is what a stack without another precision runs in, so ``fp32+compile`` and ``compile``
    are the same stack, called ``compile``.

    ``parts`` are its techniques as they are written, with those arguments that are no default:
    ``("bf16", "compile(mode=reduce-overhead)")``.
    """

    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return "+".join(self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its techniques, without their arguments."""
        return tuple(part.partition("(")[0] for part in self.parts)

    @property
    def by_name(self) -> dict[str, Technique]:
        """Its techniques, in the order in which they are applied."""
        return {technique.name: technique for technique in self.techniques()}

    @property
    def baseline(self) -> Stack:
        """What it is compared with: fp32, with the adapters that it carries."""
        kept = (technique.in_baseline for technique in self.techniques())
        return Stack(tuple(text for text in kept if text is not None) or (BASELINE_NAME,))

    @property
    def is_baseline(self) -> bool:
        """Whether it is fp32, with adapters or without."""
        return self == self.baseline

    def techniques(self) -> tuple[Technique, ...]:
        """The technique objects, in the order in which they are applied."""
        return tuple(_technique(part) for part in self.parts)

    def changed_components(self) -> frozenset[str] | None:
        """Components that differ from the baseline's, or ``None`` where all do."""
        changed: frozenset[str] = frozenset()
        for technique in self.techniques():
            if technique.changes is None:
                return None
            changed |= technique.changes
        return changed

    @property
    def call_steps(self) -> int | None:
        """How many denoising steps its calls are asked for; ``None``: as the baseline's."""
        asked = (technique.call_steps for technique in self.techniques())
        return next((steps for steps in asked if steps is not None), None)

    @property
    def changes_schedule(self) -> bool:
        """Whether its calls may have other steps than the baseline's."""
        return any(technique.changes_schedule for technique in self.techniques())

    @property
    def image_presets(self) -> frozenset[str]:
        """The presets of images that its techniques ask for."""
        return frozenset(t.image_preset for t in self.techniques() if t.image_preset)

    def with_files(self, where: Callable[[str], str]) -> Stack:
        """The same stack, each file that an argument names being ``where`` of it."""
        found = []
        for one in self.techniques():
            given = {
                key: where(value) if key in one.files and isinstance(value, str) else value
                for key, value in one.arguments.items()
            }
            found.append(one.with_arguments(given).text)
        return Stack(tuple(found))

    def __str__(self) -> str:
        return self.name


FP32 = Stack((BASELINE_NAME,))
PREVIOUS = Stack(("previous",))
"""Stands for "the stack before this one in the test's marker", in ``over="previous"`` only."""
BASE = Stack(("base",))
"""Stands for "the same stack in the base that this tree is compared with", in ``over="base"``."""


def meant_by(over: Stack, stack: Stack) -> Stack:
    """What ``stack`` is compared with where ``over`` was written: ``fp32`` is its baseline."""
    return stack.baseline if over == FP32 else over


def parse_stack(text: str) -> Stack:
    """Read ``"compile+bf16"`` or ``"compile(mode=reduce-overhead)"``; order and spaces do not
    matter.

    Raises:
        UnknownStackError: a part is empty, unknown, named twice, contradicts another, or has
            arguments that it does not take.
    """
    chosen = sorted(map(_technique, split(text, "+")), key=lambda t: (t.family, t.name))
    names = [technique.name for technique in chosen]
    for name in names:
        if names.count(name) > 1:
            raise UnknownStackError(f"it names {name!r} twice")
    for first, second in itertools.pairwise(chosen):
        if first.family == second.family:
            family = first.family.name.lower()
            raise UnknownStackError(
                f"{first.name!r} and {second.name!r} are both of the family {family!r} and "
                "contradict each other; keep one"
            )
    for technique in chosen:
        for other in chosen:
            reason = technique.contradicts.get(other.name)
            reason = reason or technique.contradicts_families.get(other.family)
            if reason is not None:
                raise UnknownStackError(
                    f"{technique.name!r} and {other.name!r} contradict each other: {reason}; keep "
                    "one"
                )
    kept = [t for t in chosen if len(chosen) == 1 or t.name != BASELINE_NAME]
    return Stack(tuple(technique.text for technique in kept))


def as_stack(stack: Stack | str) -> Stack:
    """A stack, or the text of one.

    Raises:
        WrongTypeError: something else.
        UnknownStackError: see :func:`parse_stack`.
    """
    if isinstance(stack, Stack):
        return stack
    if not isinstance(stack, str):
        raise WrongTypeError(f"a stack is a text such as 'bf16+compile', not {shown(stack)}")
    return parse_stack(stack)


def _technique(text: str) -> Technique:
    """The technique that one part of a stack names, with its arguments."""
    name, given = name_and_arguments(text)
    if not name:
        raise UnknownStackError("a stack is technique names joined by '+', such as 'bf16+compile'")
    known = techniques()
    if name not in known:
        raise UnknownStackError(f"no technique is called {name!r}; {nearest(name, known)}")
    return known[name].with_arguments(known[name].read_arguments(given))


def parse_stacks(text: str) -> tuple[Stack, ...]:
    """Read the comma-separated list of ``--diffspeed-techniques``; no stack may come twice."""
    stacks = tuple(parse_stack(part) for part in split(text, ",") if part.strip())
    if not stacks:
        raise UnknownStackError("it names no stack; write for example 'bf16,bf16+compile'")
    for stack in stacks:
        if stacks.count(stack) > 1:
            raise UnknownStackError(f"it names the stack {stack.name!r} twice")
    return stacks

"""Which stacks the ladder climbs.  No torch: steps are known when tests are collected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..common.errors import UnknownStackError
from ..common.text import listed
from ..techniques.registry import techniques
from ..techniques.stacks import BASELINE_NAME, Stack, parse_stack

GUIDE = ("bf16", "channels_last", "compile", "cpu_sigmas", "int8_dynamic", "fused_qkv")
"""What the cumulative steps add, in the order of the guide "Accelerate inference" of diffusers:
data type; memory format and compilation; the scheduler; quantization; projections.  Its second
point, scaled dot product attention, is what a pipeline runs with by itself: the row ``no_sdpa``
shows what it buys."""

SCHEDULES = ("steps(10)", "scheduler(DPMSolverMultistepScheduler)+steps(10)")
"""What a cheaper schedule buys, and what it costs in pictures: half of the 20 steps that most
pipelines are called with, by the pipeline's own scheduler and by one that was made for few."""

SIXTEEN_BITS = ("sdpa_flash", "sdpa_cudnn")
"""Kernels that take 16 bits only on CUDA: alone they do not fit there, with ``bf16`` they do."""


@dataclass(frozen=True)
class Step:
    """One row: the stack ``stack``, or ``adds`` on top of the cumulative step before.

    Exactly one of the two is set.
    """

    stack: Stack | None = None
    adds: str | None = None

    @property
    def id(self) -> str:
        return f"+{self.adds}" if self.stack is None else self.stack.name


def default_steps() -> tuple[Step, ...]:
    """Cumulative steps in the guide's order, each technique alone that needs no arguments, is
    there for speed and does not say that it is no row of its own, and cheaper schedules.
    """
    known = techniques()
    cumulative = [Step(adds=name) for name in GUIDE if name in known]
    first = cumulative[0].adds if cumulative else None
    alone = [
        Step(parse_stack(stack))
        for name in sorted(known, key=lambda name: (known[name].family, name))
        if name not in (BASELINE_NAME, first)
        and known[name].in_default_ladder
        and not (known[name].example or known[name].saves_memory)
        for stack in (name, *(f"bf16+{name}" for _ in range(name in SIXTEEN_BITS)))
    ]
    return (*cumulative, *alone, *(Step(parse_stack(stack)) for stack in SCHEDULES))


def steps_of(stacks: Sequence[Stack]) -> tuple[Step, ...]:
    """The steps of ``--diffspeed-techniques``, or those of the guide.

    Raises:
        UnknownStackError: only the baseline is named, which every row is compared with.
    """
    if not stacks:
        return default_steps()
    steps = tuple(Step(stack) for stack in stacks if not stack.is_baseline)
    if not steps:
        raise UnknownStackError(
            f"--diffspeed-techniques names {listed([one.name for one in stacks])} only, which "
            "every row of the ladder is compared with; name another stack"
        )
    return steps


@dataclass(frozen=True)
class ResolvedStep:
    """A step with its stacks: what is measured, and what it is measured against.

    ``previous`` is ``None`` where that would be the baseline.
    """

    stack: Stack
    previous: Stack | None


def climb(
    steps: Sequence[Step], step: Step, why_not: Callable[[Stack], str | None]
) -> ResolvedStep:
    """The stacks of ``step``, which is one of ``steps``.

    ``why_not`` says why a stack cannot be run on this pipeline and device.  A technique that cannot
    is a row of its own and left out of the steps after it.
    """
    if step.stack is not None:
        stacks = [s.stack for s in steps if s.stack is not None]
        named = steps[0].stack is not None  # the user's own list
        earlier_stacks = stacks[: stacks.index(step.stack)] if named else []
        # A step adds to what is below it; a ratio of two unrelated stacks would say nothing of it.
        built_upon = (
            stack
            for stack in reversed(earlier_stacks)
            if set(stack.parts) < set(step.stack.parts) and why_not(stack) is None
        )
        return ResolvedStep(step.stack, next(built_upon, None))
    below: Stack | None = None
    for earlier in steps:
        if earlier.adds is None:
            continue
        wanted = parse_stack(earlier.adds if below is None else f"{below.name}+{earlier.adds}")
        if earlier == step:
            return ResolvedStep(wanted, below)
        if why_not(wanted) is None:
            below = wanted
    raise UnknownStackError(f"{step.id!r} is no step of this ladder")

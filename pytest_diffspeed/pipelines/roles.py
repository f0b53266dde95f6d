"""What a component is, from when it ran: pure, over the times at which things began and ended.

Times are numbers that only grow.  A *loop* is a run of steps: those of one scheduler between two
times that its timesteps were set, together with those of other schedulers that step in between
(video and audio of LTX-2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .what_ran import Role


@dataclass
class Ran:
    """One time that a component was entered."""

    component: str
    entry: str
    began: int
    ended: int = 0


@dataclass
class StepSpan:
    """One call of a scheduler's ``step``, and the timesteps that the scheduler had then."""

    scheduler: Any
    timesteps: Any
    began: int
    ended: int = 0


@dataclass(frozen=True)
class Loop:
    """A denoising loop: when its first denoiser began, and when each of its steps ended."""

    began: int
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Roles:
    """The components' roles, with the steps that each ran in; ``steps`` of the whole call."""

    steps: int
    by_name: dict[str, tuple[Role, tuple[int, ...]]]
    loops: tuple[Loop, ...] = ()

    def of(self, name: str) -> tuple[Role, tuple[int, ...]]:
        return self.by_name[name]


def roles(
    ran: Sequence[Ran],
    steps: Sequence[StepSpan],
    scaled: Sequence[int],
    takes_a_timestep: Callable[[str], bool],
) -> Roles:
    """When everything ran.

    What runs between two steps of a loop is in the loop.  Before its first step also encoders run;
    in the loop is then what runs in a later step too, what runs after the scheduler scaled the
    input (``scaled``, the times of it), what takes a timestep, and what ran last.

    A call without any scheduler step has a loop of its own somewhere: what takes a timestep is a
    denoiser.
    """
    loops = _loops(steps, ran)
    inside: dict[str, set[int]] = {}
    found_loops: list[Loop] = []
    number = 0
    before = 0
    for loop in loops:
        own = {
            one.component
            for one in ran
            if one.ended > loop[0] and one.began < loop[-1] and one.began > loop[0]
        }
        start = min((at for at in scaled if before < at < loop[0]), default=loop[0])
        prelude = [one for one in ran if before < one.began < loop[0]]
        last = prelude[-1].component if prelude else None
        first = [
            one
            for one in prelude
            if one.component in own
            or one.began > start
            or one.component == last
            or takes_a_timestep(one.component)
        ]
        for one in first:
            inside.setdefault(one.component, set()).add(number)
        found_loops.append(Loop(min((one.began for one in first), default=start), tuple(loop)))
        for at, (begin, end) in enumerate(pairwise(loop), number + 1):
            for one in ran:
                if begin < one.began < end:
                    inside.setdefault(one.component, set()).add(at)
        number += len(loop)
        before = loop[-1]
    found: dict[str, tuple[Role, tuple[int, ...]]] = {}
    for one in ran:
        name = one.component
        if name in inside or (not loops and takes_a_timestep(name)):
            found[name] = (Role.DENOISER, tuple(sorted(inside.get(name, ()))))
        elif name not in found:
            late = bool(loops) and one.began > loops[-1][-1]
            found[name] = (Role.DECODER if late else Role.ENCODER, ())
        elif one.began > (loops[-1][-1] if loops else one.began):
            found[name] = (Role.DECODER, ())
    return Roles(number, found, tuple(found_loops))


def _loops(steps: Sequence[StepSpan], ran: Sequence[Ran]) -> list[list[int]]:
    """For each loop, the time at which each of its steps ended."""
    runs = _runs(steps)
    spans: list[tuple[int, int, list[StepSpan]]] = []
    for run in sorted(runs, key=lambda run: run[0].began):
        if spans and run[0].began < spans[-1][1]:
            begin, end, together = spans[-1]
            spans[-1] = (begin, max(end, run[-1].ended), [*together, *run])
        else:
            spans.append((run[0].began, run[-1].ended, list(run)))
    return [_ends(sorted(together, key=lambda s: s.began), ran) for _, _, together in spans]


def _runs(steps: Sequence[StepSpan]) -> list[list[StepSpan]]:
    """The steps of each scheduler, parted where its timesteps were set anew."""
    runs: list[list[StepSpan]] = []
    current: dict[int, list[StepSpan]] = {}
    for step in steps:
        run = current.get(id(step.scheduler))
        if run is None or run[-1].timesteps is not step.timesteps:
            run = current[id(step.scheduler)] = []
            runs.append(run)
        run.append(step)
    return runs


def _ends(steps: Sequence[StepSpan], ran: Sequence[Ran]) -> list[int]:
    """Schedulers that step one after the other, with nothing run in between, end one step."""
    ends: list[int] = []
    stepped: set[int] = set()
    for step in steps:
        same = (
            ends
            and id(step.scheduler) not in stepped
            and not any(ends[-1] < one.began < step.began for one in ran)
        )
        if same:
            ends[-1] = step.ended
        else:
            ends.append(step.ended)
            stepped = set()
        stepped.add(id(step.scheduler))
    return ends

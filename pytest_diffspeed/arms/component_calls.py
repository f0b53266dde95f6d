"""Arms that call one component alone, with the inputs that it got in a real call of the pipeline.

A pair is then one denoiser call of each arm instead of one image of each.  That is only right for a
component whose call is the same wherever it stands, so each captured call is run again first, in
another order, and must give what the pipeline got from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..adapters.diffusers_internals import stateful_hooks
from ..adapters.offload_hooks import offload_hooks
from ..common.errors import MeasurementError, UsageError
from ..common.text import listed, plural
from ..pipelines.boundaries import is_compiled_whole, require_unit
from ..pipelines.entries import Entry, chosen_entries
from ..pipelines.observed import Role
from ..pipelines.step_calls import StepCall, StepCalls, by_step, capture_steps
from ..timing.arm import Arm, Shaped
from ..timing.timer import Timed
from .kept_state import is_like, marks_of

if TYPE_CHECKING:
    from ..accelerators.clock import Clock
    from .prepared_arm import PreparedArm

FEW_STEPS = 3
"""Of the call whose inputs are kept: a first, a middle and a last one, all over the noise levels.
The component does not know how many steps the call has."""

MOST_STEPS = 4
"""Of a long call, which is made where a denoiser runs in late steps only."""


ROLES = (Role.ENCODER.value, Role.DECODER.value)
"""Words for all components of a role, which stages have no seconds of."""


class NotAloneError(MeasurementError):
    """A component cannot be timed alone; its sentence says why and is a part of others."""


@dataclass(frozen=True)
class ComponentArms:
    """Arms that time one component, in the order of those that they were made of.

    ``pairs_of`` says what a pair is of, for the line of a verdict.
    """

    prepared: tuple[PreparedArm, ...]
    arms: tuple[Arm, ...]
    pairs_of: str
    unit: str
    ran_in: tuple[int, ...] = ()
    """The numbers of all steps that the component runs in."""

    def arm_of(self, prepared: PreparedArm) -> Arm:
        """That of ``prepared``, which need not be one of those that were given.

        Raises:
            NotAloneError: see :func:`component_arms`.
        """
        for known, arm in zip(self.prepared, self.arms, strict=True):
            if known.spec == prepared.spec:
                return arm
        return component_arms([prepared], self.unit).arms[0]

    def open(self) -> AbstractContextManager[Sequence[Sequence[Arm]]]:
        """The arms, ready to be timed."""
        return nullcontext([self.arms])


class ComponentArm(Arm):
    """Calls a component as in one step of the pipeline, with inputs that are made anew each time.

    ``turn`` says of which step; arms that are compared have the same steps.  Copies of the inputs
    are made, and outputs released, outside of what is timed.
    """

    def __init__(
        self,
        name: str,
        running: Callable[[], AbstractContextManager[Any]],
        steps: Sequence[Sequence[StepCall]],
        shape: tuple[int, ...] | None,
    ) -> None:
        super().__init__(name, lambda: self._staged()(), running, self._timed)
        self.turn = 0
        self._steps = steps
        self._output = None if shape is None else Shaped(shape)

    def _staged(self) -> Callable[[], list[Any]]:
        calls = [one.staged() for one in self._steps[self.turn % len(self._steps)]]
        return lambda: [call() for call in calls]

    def _timed(self, clock: Clock, _: Callable[[], object]) -> Timed:
        seconds, _outputs = clock.time(self._staged())
        return Timed(seconds, seconds, self._output)


def component_arms(prepared: Sequence[PreparedArm], unit: str) -> ComponentArms:
    """Arms that time ``unit`` alone, one for each of ``prepared``.

    Each arm makes one short call of its pipeline, and four steps of the component, the first time.

    Raises:
        NotAloneError: it must be timed in whole calls; the sentence says why.
        SourceError: a call runs none of that name.
    """
    captured = [_captured(arm, unit) for arm in prepared]
    ran_in = {calls.ran_in for calls in captured}
    if len(ran_in) > 1:
        raise NotAloneError(f"the arms do not run {unit} in the same steps")
    numbers = [n for n in captured[0].steps if all(n in calls.steps for calls in captured)]
    if not numbers:
        raise NotAloneError(f"no step's inputs of {unit} are small enough to be kept for all arms")
    arms = tuple(
        ComponentArm(
            one.spec.stack.name, one.running, [calls.steps[n] for n in numbers], calls.shape
        )
        for one, calls in zip(prepared, captured, strict=True)
    )
    names = [one.spec.stack.name for one in prepared]
    what = _what(unit, captured, numbers, names, prepared[0].call.defaults.steps)
    return ComponentArms(tuple(prepared), arms, what, unit, captured[0].ran_in)


def _what(
    unit: str,
    captured: Sequence[StepCalls],
    numbers: Sequence[int],
    names: Sequence[str],
    whole: int,
) -> str:
    """``"unet calls of steps 1, 2, 3 (inputs of a real call of 3 steps)"``; how many it has is left
    out where that is all that a ``whole`` call has.
    """
    counts = [{n: len(calls.steps[n]) for n in numbers} for calls in captured]
    first = captured[0].steps[numbers[0]]
    if not by_step([call.entry for call in first]):
        what = f"the {unit} calls of one image"
    else:
        steps = listed([str(n + 1) for n in numbers], MOST_STEPS)
        what = f"{unit} calls of step{'' if len(numbers) == 1 else 's'} {steps}"
    shortened = by_step([call.entry for call in first]) and captured[0].of_steps < whole
    note = "inputs of a real call"
    note += f" of {plural(captured[0].of_steps, 'step')}" if shortened else ""
    if any(count != counts[0] for count in counts):
        each = (f"{sum(c.values())} in {name}" for c, name in zip(counts, names, strict=True))
        note += f"; {listed(list(dict.fromkeys(each)))}"
    return f"{what} ({note})"


def _captured(arm: PreparedArm, unit: str) -> StepCalls:
    """The checked calls of one arm, or why there are none: found out once."""
    key = ("component calls", unit)
    if key not in arm.memo:
        try:
            with arm.running():
                arm.memo[key] = _capture(arm, unit)
        except NotAloneError as error:
            arm.memo[key] = error
    found: StepCalls | NotAloneError = arm.memo[key]
    if isinstance(found, NotAloneError):
        raise found
    return found


def _capture(arm: PreparedArm, unit: str) -> StepCalls:
    observed, in_steps = arm.observed()
    if unit not in ROLES:
        require_unit(arm.pipeline, observed, unit)
    try:
        entries = chosen_entries(observed, [unit], f"unit={unit!r}")
    except UsageError as error:  # unreachable because the unit was just checked
        raise NotAloneError(str(error)) from None
    for entry in entries:
        why = _why_not_alone(entry)
        if why is not None:
            raise NotAloneError(why)
    steps = min(max(in_steps, FEW_STEPS), arm.call.defaults.steps)
    ran = sorted({step for entry in entries for step in entry.component.steps})
    known = steps == in_steps and by_step(entries)
    wanted = spread(ran, MOST_STEPS) if known and ran else None
    found = capture_steps(
        arm.pipeline, lambda: arm.call(arm.pipeline, steps=steps), entries, wanted
    )
    if not found.steps:
        raise NotAloneError(f"no call of {unit} was seen where it was observed before")
    _check(found, unit)
    forgotten = {
        number: tuple(replace(call, outputs=()) for call in calls)
        for number, calls in found.steps.items()
    }
    return replace(found, steps=forgotten, of_steps=steps)


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most ``most`` of ``numbers``, the first and the last among them, evenly between."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(at * (len(numbers) - 1) / (most - 1))] for at in range(most)]


def _why_not_alone(entry: Entry) -> str | None:
    module = entry.component.module
    assert module is not None, "unreachable because it was seen to run"
    if is_compiled_whole(entry):
        return f"{entry.name} is part of a module that is compiled as a whole"
    for moved in offload_hooks(module):
        return f"{moved} moves {entry.component.name} between calls"
    for hook in stateful_hooks(module):
        return f"{entry.component.name} keeps a state between calls (hook {hook!r})"
    return None


def _check(calls: StepCalls, unit: str) -> None:
    """Run the captured calls again, last step first, and the first one twice.

    Raises:
        NotAloneError: one gave something else than it gave the pipeline, or left something behind.
    """
    numbers = sorted(calls.steps, reverse=True)
    for number in numbers:
        _run_again(calls.steps[number])
    first = calls.steps[numbers[-1]]
    modules = _modules(first)
    before = [marks_of(module) for module in modules]
    _run_again(first)
    for module, earlier in zip(modules, before, strict=True):
        now = marks_of(module)
        changed = sorted(name for name in {*now, *earlier} if now.get(name) != earlier.get(name))
        if changed:
            raise NotAloneError(
                f"{unit} keeps a state between calls ({listed(changed)} changed in one)"
            )


def _run_again(calls: Sequence[StepCall]) -> None:
    for call in calls:
        if not is_like(call.outputs, call.staged()()):
            raise NotAloneError(
                f"{call.entry.name} does not give again what it gave in the pipeline's call: it is "
                "random, or keeps a state between calls"
            )


def _modules(calls: Sequence[StepCall]) -> list[Any]:
    found = {id(c.entry.component.module): c.entry.component.module for c in calls}
    return list(found.values())

"""Arms that are timed by single denoising steps, each with guidance and ``scheduler.step``.

A step cannot be called alone: its code stands in the middle of a pipeline's call.  So each arm's
call runs in a thread of its own that is held whenever a scheduler's ``step`` has ended, and only
one of them runs at a time: that whose step is timed.  Both arms are at the same step of their call,
with generators and scheduler states of their own, so nothing has to be captured or replayed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ..adapters.diffusers_internals import stateful_hooks
from ..common.errors import MeasurementError
from ..pipelines.boundaries import require_unit
from ..pipelines.scheduler_watch import ENDS_STEP, schedulers_of, watch_schedulers
from ..timing.arm import Arm
from ..timing.timer import Timed
from .component_calls import NotAloneError, component_arms
from .held_call import HeldCall

if TYPE_CHECKING:
    from ..accelerators.clock import Clock
    from .prepared_arm import PreparedArm

ONE_STEP = (
    "unit='step': a call with one denoising step has no steady step; use --diffspeed-steps=2 or "
    "more"
)


class StepArm(Arm):
    """An arm whose timed call is its next steady step.

    The first step of a call, with what comes before it, and what follows the last one run outside
    of what is timed.
    """

    def __init__(self, prepared: PreparedArm, lengths: dict[str, int]) -> None:
        name = prepared.spec.stack.name
        self.held = HeldCall(lambda: prepared.call.run(prepared.pipeline), name)
        super().__init__(name, self._next_step, lambda: _running(prepared), self._timed)
        self._lengths = lengths

    def _timed(self, clock: Clock, _: Callable[[], object]) -> Timed:
        seconds = self._stepped(lambda: clock.time(self.held.advance))
        return Timed(seconds, seconds, None)

    def _next_step(self) -> None:
        """Off the clock."""
        self._stepped(lambda: (0.0, self.held.advance()))

    def _stepped(self, advance: Callable[[], tuple[float, bool]]) -> float:
        """Seconds of the next steady step, as ``advance`` tells them, and whether it was one."""
        for _attempt in range(2):
            self._to_a_steady_step()
            seconds, is_step = advance()
            if is_step:
                return seconds
            self._ended()
        raise AssertionError("unreachable because a call of known length is not run to its end")

    def _to_a_steady_step(self) -> None:
        is_last = self.held.is_running and self.held.steps_ended == self._lengths.get(self.name)
        if is_last and self.held.advance():
            raise MeasurementError(f"unit='step': the calls of {self.name} differ in steps")
        if not self.held.is_running and not self.held.advance():
            raise MeasurementError("unit='step': no scheduler stepped in a call")

    def _ended(self) -> None:
        """The call had no further step: now it is known how many it has."""
        self._lengths[self.name] = self.held.steps_ended
        if self.held.steps_ended == 1:
            raise MeasurementError(ONE_STEP)
        if len(set(self._lengths.values())) > 1:
            each = ", ".join(f"{steps} in {name}" for name, steps in self._lengths.items())
            raise MeasurementError(
                f"unit='step': calls of the arms have other numbers of steps ({each}), so no step "
                "of the one is that of the other"
            )


@contextmanager
def _running(prepared: PreparedArm) -> Iterator[None]:
    """The process-wide state of one step.  A call that is held must hold none of it: the other
    arm's call would save it as what was there before, and put it back when all is over.
    """
    with prepared.running(), prepared.call.surroundings():
        yield


class StepArms:
    """The arms of a measurement by steps; threads and watches live while :meth:`open` is."""

    pairs_of = "steps of calls in lockstep"

    def __init__(self, prepared: Sequence[PreparedArm]) -> None:
        self._prepared = prepared
        self._lengths: dict[str, int] = {}
        self._arms = {arm.spec: StepArm(arm, self._lengths) for arm in prepared}
        self.ran_in = tuple(range(prepared[0].steps_of_call()))
        """The numbers of the steps of a call: arms in other processes must have the same."""

    @property
    def arms(self) -> tuple[StepArm, ...]:
        return tuple(self._arms[arm.spec] for arm in self._prepared)

    def arm_of(self, prepared: PreparedArm) -> StepArm:
        """That of ``prepared``, which need not be one of those that were given first."""
        if prepared.spec not in self._arms:
            self._arms[prepared.spec] = StepArm(prepared, self._lengths)
        return self._arms[prepared.spec]

    @contextmanager
    def open(self) -> Iterator[Sequence[Sequence[StepArm]]]:
        """The arms, ready to be timed; afterwards no call of theirs runs any more."""
        schedulers = {
            id(one): one for arm in self._prepared for one in schedulers_of(arm.pipeline).values()
        }
        with ExitStack() as stack:
            stack.enter_context(watch_schedulers(self._around, schedulers.values(), ENDS_STEP))
            stack.callback(self._end)
            yield [self.arms]

    def _around(self, scheduler: Any, _: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            stepped = function(*args, **kwargs)
            here = threading.get_ident()
            for arm in list(self._arms.values()):
                if arm.held.owns(here):
                    arm.held.scheduler_stepped(scheduler)
            return stepped

        return stepping

    def _end(self) -> None:
        for arm in self._arms.values():
            arm.held.end()


def step_arms(prepared: Sequence[PreparedArm]) -> StepArms:
    """Arms that time single steps, one for each of ``prepared``.

    Raises:
        NotAloneError: their steps can be timed in whole calls only; the sentence says why.
        SourceError: no scheduler steps in a call.
    """
    for arm in prepared:
        require_unit(arm.pipeline, arm.observed()[0], "step")
        if arm.applied.cuda_graph_launches:
            raise NotAloneError(
                f"{arm.spec.stack} replays CUDA graphs, which belong to the thread that recorded "
                "them"
            )
        _require_like_steps(arm)
    _require_as_many_steps(prepared)
    _require_own_state(prepared)
    return StepArms(prepared)


def _require_like_steps(arm: PreparedArm) -> None:
    """A verdict may rest on the first few steady steps, and is one on the steps of a call.

    Raises:
        NotAloneError: the steps of a call differ, as far as is seen of its denoisers.
    """
    observed, _ = arm.observed()
    for denoiser in observed.denoisers:
        if len(set(denoiser.steps)) < observed.steps:
            raise NotAloneError(
                f"{denoiser.name} runs in some steps only, so the first ones say nothing of others"
            )
        assert denoiser.module is not None, "unreachable because it was seen to run"
        for hook in stateful_hooks(denoiser.module):
            raise NotAloneError(
                f"{denoiser.name} keeps a state between steps (hook {hook!r}), so the first ones "
                "say nothing of others"
            )


def _require_as_many_steps(prepared: Sequence[PreparedArm]) -> None:
    """What a stack says of its own schedule; other calls are seen when they end.

    Raises:
        NotAloneError: the arms' calls have other numbers of steps.
    """
    if any(arm.spec.stack.changes_schedule for arm in prepared):
        steps = {arm.spec.stack.name: arm.steps_of_call() for arm in prepared}
        if len(set(steps.values())) > 1:
            each = ", ".join(f"{number} in {name}" for name, number in steps.items())
            raise NotAloneError(f"calls of the arms have other numbers of steps ({each})")


def _require_own_state(prepared: Sequence[PreparedArm]) -> None:
    """Calls that take turns must not disturb each other through what two arms share.

    Raises:
        NotAloneError: they share a scheduler, or a denoiser that keeps a state between calls.
    """
    seen: set[int] = set()
    for arm in prepared:
        schedulers = {id(one): name for name, one in schedulers_of(arm.pipeline).items()}
        denoisers = {id(one.module): one.name for one in arm.observed()[0].denoisers}
        for shared in seen & schedulers.keys():
            raise NotAloneError(
                f"the arms share {schedulers[shared]}, whose state belongs to one call at a time"
            )
        for shared in seen & denoisers.keys():
            try:
                component_arms([arm], denoisers[shared])
            except NotAloneError as error:
                raise NotAloneError(f"the arms share {denoisers[shared]}, and {error}") from None
        seen |= schedulers.keys() | denoisers.keys()

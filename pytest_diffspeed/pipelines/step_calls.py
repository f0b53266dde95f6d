"""The calls of components in one real call of a pipeline, by denoising step, to be run again alone.

A denoiser's calls are told apart by the steps that they belong to: those before the first
``scheduler.step`` ended belong to step 0.  All calls of another component, a text encoder or
``vae.decode``, are those of one image and go together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from ..adapters.diffusers_internals import cache_surroundings
from ..compilation.probe import Call
from .copied_inputs import bytes_in, copied, tensors_in
from .entries import FORWARD, Entry
from .kept_call import kept_call
from .observed import Role
from .scheduler_watch import ENDS_STEP, schedulers_of, telling, watch_schedulers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

MOST_BYTES = 512 * 2**20
"""Of all inputs and outputs that are kept of an arm; the first step's are kept whatever they take.
The residuals of a ControlNet for SDXL at 1024² are a few hundred megabytes a step."""


@dataclass(frozen=True)
class StepCall:
    """One call of a component: what was called, with what, how, and what came out of it.

    ``outputs`` are the tensors that it returned, copied.
    """

    entry: Entry
    call: Call
    outputs: tuple[torch.Tensor, ...]

    def staged(self) -> Callable[[], Any]:
        """The same call with inputs of its own, ready to be run once."""
        args, kwargs = copied((self.call.args, self.call.kwargs))
        call = replace(self.call, args=args, kwargs=kwargs)
        function = self.entry.function()
        return lambda: call.run(function)


@dataclass(frozen=True)
class StepCalls:
    """The calls of one arm's pipeline call.

    Args:
        steps: by the number of the step, from 0, its calls in the pipeline's order; components that
            are no denoisers have all theirs under 0.
        ran_in: the numbers of all steps that had such calls, those that were not kept too.
        shape: of what the pipeline returned.
        of_steps: how many steps were asked of the call; 0: not told.
    """

    steps: dict[int, tuple[StepCall, ...]]
    ran_in: tuple[int, ...]
    shape: tuple[int, ...] | None
    of_steps: int = 0


def by_step(entries: Sequence[Entry]) -> bool:
    """Whether calls of these components are told apart by step."""
    return any(entry.component.role is Role.DENOISER for entry in entries)


def capture_steps(
    pipeline: DiffusionPipeline,
    call: Callable[[], object],
    entries: Sequence[Entry],
    wanted: Collection[int] | None = None,
) -> StepCalls:
    """Run ``call()``, a call of ``pipeline``, and keep what ``entries`` are called with.

    Args:
        pipeline: compiled or not.
        call: the call.
        entries: ways into components.  One that is called inside of another is a part of it.
        wanted: the numbers of the steps whose calls are kept; all if left out.
    """
    recorder = _Recorder(wanted, steps=by_step(entries))
    with ExitStack() as stack:
        for entry in entries:
            stack.enter_context(entry.watched(recorder.around(entry)))
        ends = telling(lambda *_: None, lambda scheduler, _: recorder.step_ended(scheduler))
        stack.enter_context(watch_schedulers(ends, schedulers_of(pipeline).values(), ENDS_STEP))
        returned = call()
    shape = getattr(returned, "shape", None)
    steps = {number: tuple(calls) for number, calls in recorder.kept.items()}
    return StepCalls(steps, tuple(recorder.ran_in), None if shape is None else tuple(shape))


class StepEnds:
    """Tells which calls of ``scheduler.step`` end a denoising step of their own.

    Schedulers that step one after the other, with no denoiser between, end one step (the video and
    the audio of LTX-2).
    """

    def __init__(self) -> None:
        self._ended_by: list[Any] = []

    def is_new(self, scheduler: Any, has_run: bool = False) -> bool:
        """``has_run``: whether a denoiser is known to have run since the last one."""
        again = any(scheduler is one for one in self._ended_by)
        new = again or has_run or not self._ended_by
        if new:
            self._ended_by.clear()
        self._ended_by.append(scheduler)
        return new


@dataclass
class _Recorder:
    wanted: Collection[int] | None
    steps: bool
    kept: dict[int, list[StepCall]] = field(default_factory=dict)
    ran_in: dict[int, None] = field(default_factory=dict)
    _now: int = 0
    _has_run: bool = False
    _running: bool = False
    _bytes: int = 0
    _ends: StepEnds = field(default_factory=StepEnds)

    def step_ended(self, scheduler: Any) -> None:
        if self.steps and not self._running and self._ends.is_new(scheduler, self._has_run):
            self._now += 1
            self._has_run = False

    def around(self, entry: Entry) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def calling(*args: Any, **kwargs: Any) -> Any:
                if self._running:
                    return function(*args, **kwargs)
                step = self._now
                self._has_run = True
                self.ran_in[step] = None
                kept = self._call(entry, args, kwargs) if self._keeps(step) else None
                self._running = True
                try:
                    output = function(*args, **kwargs)
                finally:
                    self._running = False
                if kept is not None:
                    outputs = tuple(copied(list(tensors_in(output))))
                    self._bytes += bytes_in((kept.args, kept.kwargs, outputs))
                    self.kept.setdefault(step, []).append(StepCall(entry, kept, outputs))
                return output

            return calling

        return wrap

    def _keeps(self, step: int) -> bool:
        if self.wanted is not None and step not in self.wanted:
            return False
        # Whole steps, and one at least.
        return step in self.kept or not self.kept or self._bytes < MOST_BYTES

    @staticmethod
    def _call(entry: Entry, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        module, method = entry.target()
        inner = cache_surroundings(module) if method == FORWARD else nullcontext
        return kept_call(args, kwargs, inner)

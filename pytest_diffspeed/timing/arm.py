"""An arm: something that can be called once and timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ..accelerators.clock import Clock
from ..common.errors import MeasurementError
from ..common.lazy_results import refuse_unfinished
from .gc_paused import gc_paused
from .timer import Timer, whole_call


@runtime_checkable
class TimedArm(Protocol):
    """What can be timed: an arm of this process, or one that a worker process runs for us.

    ``last_call_s`` are the seconds of the last timed call as a whole, ``last_output`` what it
    returned, or something with its ``shape``.
    """

    name: str
    last_call_s: float
    last_output: object

    def timed_call(self, clock: Clock) -> float:
        """Call once; the seconds that count.  Raises MeasurementError."""

    def untimed_call(self) -> None:
        """Call once, off the clock.  Raises MeasurementError."""


@runtime_checkable
class TakesTurns(Protocol):
    """An arm that has several inputs: ``turn`` says which of them its next call takes."""

    turn: int


def in_turn(arm: TimedArm, turn: int) -> TimedArm:
    """``arm``, whose next calls take the inputs of ``turn``, if it has more than one."""
    if isinstance(arm, TakesTurns):
        arm.turn = turn
    return arm


@dataclass(frozen=True)
class Shaped:
    """Stands for an output that is not kept, or not here: its shape is all that is compared."""

    shape: tuple[int, ...]


@dataclass
class Arm:
    """An arm of this process.

    ``call`` runs it once; ``running`` makes the context of a call, outside the timed region.
    ``timer`` says which seconds of a call count: those of all of it, or those of one stage.
    ``last_call_s`` are the seconds of the whole call all the same.
    """

    name: str
    call: Callable[[], object]
    running: Callable[[], AbstractContextManager[Any]] = nullcontext
    timer: Timer = whole_call
    calls: int = 0
    last_output: object = field(default=None, repr=False)
    last_call_s: float = math.nan

    def timed_call(self, clock: Clock) -> float:
        """Call once; seconds.

        Python's garbage collector is kept out of the timed region.

        Raises:
            MeasurementError: the call raised, or the clock gave no positive finite number.
            UsageError: the call returned a coroutine or the like in place of doing its work.
        """
        with self._one_call():
            seconds, self.last_call_s, self.last_output = self.timer(clock, self.call)
        refuse_unfinished(self.last_output, f"arm {self.name!r}")
        for duration in (seconds, self.last_call_s):
            if not (math.isfinite(duration) and duration > 0.0):
                raise MeasurementError(
                    f"arm {self.name!r}: the clock gave {duration!r} seconds for call number "
                    f"{self.calls}; a duration must be positive and finite"
                )
        return seconds

    def untimed_call(self) -> None:
        """Call once, off the clock, so that the next call finds caches as its own arm left them.

        Raises:
            MeasurementError: the call raised.
        """
        with self._one_call():
            self.call()

    @contextmanager
    def _one_call(self) -> Iterator[None]:
        self.calls += 1
        with self.running(), gc_paused():
            try:
                yield
            except MeasurementError:
                raise  # the call went well; what was to be timed in it is not there
            except Exception as error:
                raise MeasurementError(
                    f"arm {self.name!r} raised in its call number {self.calls}: "
                    f"{type(error).__name__}: {error}",
                    next_step=MeasurementError.NEXT_STEP,  # not what its words end with
                ) from error


def check_same_outputs(baseline: TimedArm, candidate: TimedArm) -> None:
    """Refuse to compare arms whose outputs have other shapes: they did other work.

    Raises:
        MeasurementError: with both shapes.
    """
    shapes = [_shape(arm.last_output) for arm in (baseline, candidate)]
    if shapes[0] != shapes[1]:
        raise MeasurementError(
            f"arm {candidate.name!r} returns {_format(shapes[1])} and arm {baseline.name!r} "
            f"{_format(shapes[0])}: they do not do the same work"
        )


def _shape(output: object) -> object:
    """What of an output must be alike: the shape of a tensor or array, of each in a sequence."""
    shape = getattr(output, "shape", None)
    if shape is not None:
        return tuple(shape)
    if isinstance(output, (list, tuple)):
        shapes = [_shape(one) for one in output]
        return shapes if any(one is not None for one in shapes) else None
    return None


def _format(shape: object) -> str:
    return "nothing with a shape" if shape is None else f"shape {shape}"

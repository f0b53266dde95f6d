"""Where in a call the program is: in ``scheduler.step``, in the denoising loop, at which step.

While a call runs, each sync is tagged with the time of a watch (a number that only grows).  Where
that time lies is known when the call is over: only then is it known what ran in the steps.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..pipelines.roles import Loop
from ..pipelines.scheduler_watch import ENDS_STEP, Around, telling


@dataclass(frozen=True)
class Position:
    """``at`` is the time of the watch."""

    at: int
    in_step: bool


class Timeline:
    """The loops of a call; steps are counted over all of them, from 0.

    A step ends with ``scheduler.step``, so what lies between two of them (guidance, scaling of the
    input, callbacks) belongs to the later one, as in stage times.
    """

    def __init__(self, loops: Sequence[Loop]) -> None:
        self._loops = loops
        self._ends = [end for loop in loops for end in loop.ends]

    @property
    def steps(self) -> int:
        return len(self._ends)

    def in_loop(self, at: int) -> bool:
        """From the first call of a loop's first denoiser to the end of the loop's last step."""
        return any(loop.began <= at < loop.ends[-1] for loop in self._loops)

    def step(self, at: int) -> int:
        """The step that ends next; the last one where none does."""
        return min(bisect_right(self._ends, at), max(self.steps - 1, 0))


class Tracker:
    """The time of a watch for what is no pipeline: a scheduler by itself, or a function."""

    def __init__(self) -> None:
        self._now = 0
        self._inside = 0
        self._began: int | None = None
        self._ends: list[int] = []

    def here(self) -> Position:
        return Position(self._now, self._inside > 0)

    def timeline(self) -> Timeline:
        """One loop, from :meth:`begin_loop`, or the first step where that was not said, on."""
        if not self._ends:
            return Timeline([])
        return Timeline([Loop(self._began or 0, tuple(self._ends))])

    def around(self) -> Around:
        """For :func:`~pytest_diffspeed.pipelines.scheduler_watch.watch_schedulers`."""

        def begins(_: Any, __: str) -> None:
            self._now += 1
            self._inside += 1

        def ends(_: Any, method: str) -> None:
            self._now += 1
            self._inside -= 1
            if method in ENDS_STEP and not self._inside:
                self._ends.append(self._now)

        return telling(begins, ends)

    def begin_loop(self) -> None:
        self._now += 1
        self._began = self._now

    def each_call(self, function: Callable[[], object]) -> object:
        """Run ``function``, which is a step."""
        result = function()
        self._now += 1
        self._ends.append(self._now)
        return result

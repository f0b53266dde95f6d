"""Where in a call the program is: in ``scheduler.step``, in the denoising loop, at which step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Position:
    """``step`` counts finished calls of ``scheduler.step``."""

    step: int
    in_step: bool
    in_loop: bool


class Tracker:
    """Follows one call.  Steps end with ``scheduler.step``, so what lies between two of them
    (guidance, scaling of the input, callbacks) belongs to the later one, as in stage times.
    """

    def __init__(self) -> None:
        self._finished = 0
        self._inside = 0
        self._loops = 0

    @property
    def finished(self) -> int:
        return self._finished

    def here(self) -> Position:
        return Position(self._finished, self._inside > 0, self._loops > 0 or self._inside > 0)

    def step(self, function: Callable[..., Any], *, ends_step: bool) -> Callable[..., Any]:
        """``function`` as part of the scope ``scheduler.step``."""

        # The signature stays, because pipelines look at that of `scheduler.step`.
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._inside += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._inside -= 1
                if ends_step and not self._inside:
                    self._finished += 1

        return watched

    def loop(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``pipeline.progress_bar``, which every pipeline puts around its denoising loop."""

        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return _Loop(self, function(*args, **kwargs))

        return watched

    def next_step(self) -> None:
        self._finished += 1

    def enter_loop(self) -> None:
        self._loops += 1

    def leave_loop(self) -> None:
        self._loops -= 1


class _Loop:
    """A progress bar, used as a context or iterated, that says when the loop runs."""

    def __init__(self, tracker: Tracker, bar: Any) -> None:
        self._tracker = tracker
        self._bar = bar

    def __enter__(self) -> Any:
        entered = self._bar.__enter__()
        self._tracker.enter_loop()
        return entered

    def __exit__(self, *exception: object) -> Any:
        self._tracker.leave_loop()
        return self._bar.__exit__(*exception)

    def __iter__(self) -> Iterator[Any]:
        self._tracker.enter_loop()
        try:
            yield from self._bar
        finally:
            self._tracker.leave_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)

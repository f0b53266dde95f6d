"""The demo pipeline's baseline and the clock of a session, for the checks of that clock."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from checks import Part
from product_arms import ArmBuilder, wait_for

LONG_S = 0.025
"""Calls that are compared take longer than 20 ms, so that 3 % are more than what a clock costs."""


class Bench:
    """The demo pipeline's baseline, proven, and the clock of a session on this device."""

    def __init__(self, part: Part) -> None:
        from pytest_diffspeed.accelerators.registry import clock_for

        self.kind = part.device
        self.small = part.small
        self.builder = ArmBuilder(part.device, "demo", steps=2 if part.small else 6)
        self.prepared = self.builder.prepared("fp32")
        self.pipeline = self.prepared.pipeline
        self.clock = clock_for(self.builder.device)
        self._short = self.builder.call_of(self.pipeline, steps=1)

    def wait(self) -> None:
        wait_for(self.kind)

    def call(self) -> object:
        return self.prepared.call(self.pipeline)

    def short_call(self) -> object:
        """With one step: for pairs, so that many gates fit into their seconds."""
        return self._short(self.pipeline)

    @functools.cached_property
    def denoiser(self) -> Callable[[], object]:
        """One call of the denoiser, with the inputs that a step gave it."""
        from pytest_diffspeed.pipelines.capture import capture

        with self.running():
            (captured,) = capture(self.pipeline, self.short_call, ["denoiser"])
        return lambda: captured.calls[0].run(captured.fn)

    @contextmanager
    def running(self) -> Iterator[None]:
        """As the product times: the arm's flags, and no garbage collection."""
        from pytest_diffspeed.timing.gc_paused import gc_paused

        with self.prepared.running(), gc_paused():
            yield

    def seconds_of(self, function: Callable[[], object], calls: int = 5) -> float:
        """Median of some calls, after two."""
        with self.running():
            times = [self.clock.time(function)[0] for _ in range(calls + 2)]
        return statistics.median(times[2:])

    def long(self, function: Callable[[], object]) -> tuple[Callable[[], object], int]:
        """``function`` as often as makes a call of more than 20 ms, and how often that is."""
        times = max(1, math.ceil(LONG_S / self.seconds_of(function)))

        def repeated() -> object:
            for _ in range(times):
                output = function()
            return output

        return repeated, times

    def arm(self, function: Callable[[], object], name: str = "baseline") -> Any:
        from pytest_diffspeed.timing.arm import Arm

        return Arm(name, function, self.prepared.running)

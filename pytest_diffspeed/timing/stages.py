"""Stage times of one pipeline call: where its seconds go.

A recorder takes a stamp when a part of the pipeline (a text encoder, a denoiser,
``scheduler.step``, ``vae.decode``) begins and when it ends, and reads the clock after the call.
Which functions of a pipeline these are is told by whoever knows the pipeline: see
:mod:`pytest_diffspeed.pipelines.boundaries`.  Nothing here knows torch or diffusers.

Steps are bounded by the ends of ``scheduler.step``: whatever a pipeline does between two of them
(guidance, scaling of the input, callbacks) belongs to the step.  Schedulers that step one after the
other with no denoiser in between (LTX-2's video and audio) end one step together.  The first step
begins with the first call of a denoiser, so it lacks what the pipeline does in the loop before.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..accelerators.clock import Clock, StampClock
from ..common.errors import MeasurementError
from .timer import Timed


class Stage(str, Enum):
    """What the seconds of a part count as."""

    TEXT_ENCODER = "text_encoder"
    DENOISER = "denoiser"
    SCHEDULER_STEP = "scheduler.step"
    VAE_DECODE = "vae.decode"
    OTHER = "other"
    """Any other component, such as an image encoder: it stands among the components only."""


@dataclass(frozen=True)
class Part:
    """What a recorder stands around: ``name`` is the pipeline's, as ``transformer_2``."""

    name: str
    stage: Stage


Around = Callable[[Part, Callable[..., Any]], Callable[..., Any]]
"""Gives a function that does what the given one does, and marks when it begins and ends."""

Boundaries = Callable[[Around], AbstractContextManager[None]]
"""Puts ``around`` on the parts of one pipeline while the context is open."""


@dataclass(frozen=True)
class StageTimes:
    """Seconds of one call and of its stages; ``None`` where the call did not run that stage.

    ``text_encoder_s``, ``denoiser_s`` and ``vae_decode_s`` are sums over the call, over all text
    encoders and all denoisers; ``components_s`` has each part by its name.  The steps contain the
    denoisers; ``rest_s`` is what is in no component and no step.
    """

    call_s: float
    text_encoder_s: float | None
    denoiser_s: float | None
    first_step_s: float | None
    steady_steps_s: tuple[float, ...]
    vae_decode_s: float | None
    rest_s: float
    components_s: Mapping[str, float] = field(default_factory=dict)

    @property
    def steady_step_s(self) -> float | None:
        """The median of the steps after the first, which has costs of its own."""
        return statistics.median(self.steady_steps_s) if self.steady_steps_s else None

    def of(self, unit: str) -> float:
        """Seconds of ``unit``: ``call``, ``step`` or a component.

        Raises:
            MeasurementError: the call did not run it.
        """
        if unit == "step" and self.first_step_s is not None and not self.steady_steps_s:
            raise MeasurementError(
                "unit='step': a call with one denoising step has no steady step; "
                "use --diffspeed-steps=2 or more"
            )
        sums = {
            "call": self.call_s,
            "step": self.steady_step_s,
            Stage.TEXT_ENCODER.value: self.text_encoder_s,
            Stage.DENOISER.value: self.denoiser_s,
        }
        seconds = sums[unit] if unit in sums else self._component_s(unit)
        if seconds is None:
            ran = "scheduler.step" if unit == "step" else unit
            raise MeasurementError(
                f"unit={unit!r} cannot be timed: {ran} did not run in a call of the pipeline, or "
                "not through the function that is watched"
            )
        return seconds

    def _component_s(self, name: str) -> float | None:
        """Of one part, or of all parts of a component: ``vae`` is all of its methods."""
        own = [s for n, s in self.components_s.items() if n == name or n.startswith(f"{name}.")]
        return sum(own) if own else None

    def as_dict(self) -> dict[str, float | int | dict[str, float] | None]:
        """For a record: seconds by stage and by component, the steady steps as their median and
        their number.
        """
        return {
            "call_s": self.call_s,
            "text_encoder_s": self.text_encoder_s,
            "denoiser_s": self.denoiser_s,
            "first_step_s": self.first_step_s,
            "steady_step_s": self.steady_step_s,
            "steady_steps": len(self.steady_steps_s),
            "vae_decode_s": self.vae_decode_s,
            "rest_s": self.rest_s,
            "components": dict(self.components_s),
        }


class _Recorder:
    """Stamps at the boundaries of one call."""

    def __init__(self, clock: StampClock) -> None:
        self._clock = clock
        self._stamps: list[Any] = []
        # Part, the object whose method it is, and the numbers of its two stamps.
        self._spans: list[tuple[Part, object, int, int]] = []
        self._running: set[Part] = set()

    def mark(self) -> int:
        self._stamps.append(self._clock.stamp())
        return len(self._stamps) - 1

    def around(self, part: Part, function: Callable[..., Any]) -> Callable[..., Any]:
        # The signature is kept because pipelines look at that of `scheduler.step`; the function's
        # own attributes are not, because torch.compile leaves some that have a meaning to it.
        @functools.wraps(function, updated=())
        def marked(*args: Any, **kwargs: Any) -> Any:
            if part in self._running:  # a part that calls itself is still one call of it
                return function(*args, **kwargs)
            self._running.add(part)
            began = self.mark()
            try:
                return function(*args, **kwargs)
            finally:
                owner = getattr(function, "__self__", None)
                self._spans.append((part, owner, began, self.mark()))
                self._running.discard(part)

        return marked

    def stages(self) -> StageTimes:
        at = self._clock.seconds(self._stamps)
        spans = [(part, at[began], at[ended]) for part, _, began, ended in self._spans]

        def total(stage: Stage) -> float | None:
            own = [(begin, end) for part, begin, end in spans if part.stage is stage]
            return _covered(own) if own else None

        components: dict[str, float] = {}
        for part, begin, end in spans:
            if part.stage is not Stage.SCHEDULER_STEP:
                components[part.name] = components.get(part.name, 0.0) + end - begin

        steps = [(at[begin], at[end]) for begin, end in _steps(self._spans)]
        in_steps = (Stage.DENOISER, Stage.SCHEDULER_STEP)
        stages = [(b, e) for part, b, e in spans if part.stage not in in_steps]
        durations = [end - begin for begin, end in steps]
        return StageTimes(
            call_s=at[-1],
            text_encoder_s=total(Stage.TEXT_ENCODER),
            denoiser_s=total(Stage.DENOISER),
            first_step_s=durations[0] if durations else None,
            steady_steps_s=tuple(durations[1:]),
            vae_decode_s=total(Stage.VAE_DECODE),
            rest_s=at[-1] - _covered([*stages, *steps]),
            components_s=components,
        )


def time_stages(
    call: Callable[[], object], boundaries: Boundaries, clock: StampClock
) -> tuple[StageTimes, object]:
    """Run ``call`` once; the seconds of its stages, and what it returned.

    The boundaries are put on before the first stamp and taken off after the last one.
    """
    recorder = _Recorder(clock)
    with boundaries(recorder.around):
        clock.prepare()
        recorder.mark()
        output = call()
        recorder.mark()
    return recorder.stages(), output


@dataclass(frozen=True)
class StageTimer:
    """Times a call by one of its stages: for :class:`~pytest_diffspeed.timing.arm.Arm`."""

    unit: str
    boundaries: Boundaries

    def __call__(self, clock: Clock, call: Callable[[], object]) -> Timed:
        """One whole call, of which the seconds of ``unit`` count.

        Raises:
            MeasurementError: the call did not run ``unit``, or the clock times whole calls only.
        """
        if not isinstance(clock, StampClock):
            raise MeasurementError(
                f"unit={self.unit!r}: {type(clock).__name__} times whole calls only; a clock of "
                "stages has prepare(), stamp() and seconds()"
            )
        stages, output = time_stages(call, self.boundaries, clock)
        return Timed(stages.of(self.unit), stages.call_s, output)


def _steps(spans: Sequence[tuple[Part, object, int, int]]) -> list[tuple[int, int]]:
    """The stamps at which each denoising step begins and ends."""
    denoised = [began for part, _, began, _ in spans if part.stage is Stage.DENOISER]
    ends: list[int] = []
    owners: list[object] = []  # schedulers that ended the last step
    for part, owner, began, ended in spans:
        if part.stage is not Stage.SCHEDULER_STEP:
            continue
        stepped = any(owner is known for known in owners)
        if not ends or stepped or any(ends[-1] < at < began for at in denoised):
            ends.append(ended)
            owners = []
        ends[-1] = ended
        owners.append(owner)
    if not ends:
        return []
    in_loop = (Stage.DENOISER, Stage.SCHEDULER_STEP)
    begin = min(began for part, _, began, _ in spans if part.stage in in_loop)
    return list(zip([begin, *ends[:-1]], ends, strict=True))


def _covered(intervals: Sequence[tuple[float, float]]) -> float:
    """Seconds that lie in at least one interval: a decode may run inside a step (previews)."""
    return sum(end - begin for begin, end in _merged(sorted(intervals)))


def _merged(intervals: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    current: tuple[float, float] | None = None
    for begin, end in intervals:
        if current is None:
            current = (begin, end)
        elif begin <= current[1]:
            current = (current[0], max(end, current[1]))
        else:
            yield current
            current = (begin, end)
    if current is not None:
        yield current

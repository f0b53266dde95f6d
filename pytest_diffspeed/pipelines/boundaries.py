"""Where the stages of a pipeline's call begin and end, for :mod:`pytest_diffspeed.timing.stages`.

Nothing of what is timed is changed, above all nothing that is compiled:

- Components that were seen to run are watched from outside their ``__call__``.  Not by its hooks:
  those of a module that was compiled in place (``module.compile()``) run inside what is compiled,
  so dynamo compiles the hook, and one that reads a clock is a graph break, with ``fullgraph=True``
  an error (torch 2.13.0).
- Methods such as ``vae.decode`` are attributes through which the pipeline calls; what stands there,
  possibly a compiled function, is put back when the call is over.
- Schedulers are watched by class, so copies that a call makes of them count too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..common.errors import SourceError, UsageError
from ..compilation.targets import outermost_marks
from ..timing.stages import Around, Boundaries, Part, Stage
from .entries import FORWARD, Entry, chosen_entries, entries
from .observed import ObservedCall, Role
from .scheduler_watch import ENDS_STEP, schedulers_of, watch_schedulers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SCHEDULER_STEP = Part("scheduler.step", Stage.SCHEDULER_STEP)
VAE_DECODE = Stage.VAE_DECODE.value
SUMS = (Stage.DENOISER.value, Stage.TEXT_ENCODER.value)
"""Units that are several components together."""


def stage_boundaries(pipeline: DiffusionPipeline, observed: ObservedCall) -> Boundaries:
    """Puts a recorder around the parts of ``pipeline`` while its context is open.

    ``observed`` says which they are.
    """

    @contextmanager
    def boundaries(around: Around) -> Iterator[None]:
        with ExitStack() as stack:
            for entry in entries(observed):
                _watch(stack, entry, around)
            steps = watch_schedulers(
                lambda _, __, function: around(SCHEDULER_STEP, function),
                schedulers_of(pipeline).values(),
                ENDS_STEP,
            )
            stack.enter_context(steps)
            yield

    return boundaries


def _watch(stack: ExitStack, entry: Entry, around: Around) -> None:
    if is_compiled_whole(entry):
        return  # what stands on the module is in the guards of its compiled code
    part = Part(entry.name, _stage(entry))
    stack.enter_context(entry.watched(lambda function: around(part, function)))


def is_compiled_whole(entry: Entry) -> bool:
    """Whether a method is entered whose whole module is compiled, and not only this way into it."""
    if entry.how == FORWARD:
        return False
    module = entry.component.module
    assert module is not None, "unreachable because it was seen to run"
    return any(mark.is_whole(module) for mark in outermost_marks(module))


def _stage(entry: Entry) -> Stage:
    if entry.name == VAE_DECODE:
        return Stage.VAE_DECODE  # also where it shows a preview in each step
    if entry.component.role is Role.DENOISER:
        return Stage.DENOISER
    is_text = entry.component.name.startswith(Stage.TEXT_ENCODER.value)
    return Stage.TEXT_ENCODER if is_text else Stage.OTHER


def require_unit(pipeline: DiffusionPipeline, observed: ObservedCall, unit: str) -> str:
    """``unit`` under the name that stage times have for it; refuse to time what did not run.

    Raises:
        SourceError: with what did run.
    """
    kind = type(pipeline).__name__
    if unit == "step":
        if not observed.steps:
            raise SourceError(
                f"unit='step' cannot be timed: no scheduler stepped in a call of {kind}"
            )
        return unit
    try:
        meant = chosen_entries(observed, [unit], f"unit={unit!r} cannot be timed for {kind}")
    except UsageError as error:
        raise SourceError(str(error)) from None
    if unit in SUMS or len(meant) == 1:
        return unit if unit in SUMS else meant[0].name
    names = {entry.component.name for entry in meant}
    if len(names) > 1:
        raise SourceError(
            f"unit={unit!r} cannot be timed for {kind}: it means {', '.join(sorted(names))}; name "
            "one of them"
        )
    return names.pop()

"""How far a candidate's denoisers are from the baseline's, call by call, before errors add up."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.errors import MeasurementError
from ..pipelines.entries import FORWARD
from ..pipelines.parts import named_parts
from .baseline_images import baseline_of, draw

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from .baseline_images import BaselineImages


@dataclass(frozen=True)
class DenoiserErrors:
    """The relative L2 error of each call of each denoiser, and what could not be compared.

    It tells a wrong layer from a chaotic trajectory and decides nothing by itself, so what cannot
    be compared is a note and no error.
    """

    errors: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def denoiser_errors(
    session: Session, candidate: PreparedArm, reference: BaselineImages
) -> DenoiserErrors:
    """Each call of the baseline's denoisers for the first case, given to the candidate's too."""
    from ..adapters.diffusers_internals import stateful_hooks
    from ..similarity import teacher_forced

    baseline = baseline_of(session, candidate)
    theirs = named_parts(candidate.pipeline)
    seen: list[list[float]] = []
    notes = []
    with ExitStack() as stack:
        for component in baseline.observed()[0].denoisers:
            if FORWARD not in component.entries:
                continue
            own, other = component.module, theirs.get(component.name)
            if own is None or other is None:
                notes.append(f"{component.name} was not compared call by call: it has no own name")
                continue
            hook = next(stateful_hooks(other), None)
            if hook is not None:
                notes.append(
                    f"{component.name} was not compared call by call: it keeps a state between "
                    f"calls (hook {hook!r})"
                )
                continue
            forced = teacher_forced(own, other, running=candidate.running)
            seen.append(stack.enter_context(forced))
        try:
            draw(session, baseline, reference.cases[:1])
        except MeasurementError as error:
            notes.append(f"the denoisers were not compared call by call: {error}")
            seen = []
    return DenoiserErrors(tuple(one for errors in seen for one in errors), tuple(notes))

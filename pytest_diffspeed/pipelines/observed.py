"""What runs in a call of a pipeline, seen in one call instead of taken from names.

A module that runs in the denoising steps is a denoiser (a pipeline may have several: Wan 2.2's two
experts, a ControlNet, a prior); one that runs before a first step is an encoder, one that runs
after the last step a decoder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..common.errors import DiffspeedError
from .call_watch import CallWatch
from .what_ran import ObservedCall, ObservedComponent, ObservedScheduler, Role

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = [
    "ObservedCall",
    "ObservedComponent",
    "ObservedScheduler",
    "Role",
    "observe_call",
    "observe_steps",
]


def observe_call(pipeline: DiffusionPipeline, call: Callable[[], object]) -> ObservedCall:
    """Run ``call()``, a call of ``pipeline``, once, and say what ran in it.

    What is compiled runs eagerly in this call, and is left as it was.
    """
    watch = CallWatch(pipeline)
    with watch.open(eagerly=True):
        call()
    return watch.observed()


def observe_steps(
    pipeline: DiffusionPipeline, call: Callable[[int], object], few: int, all_steps: int
) -> tuple[ObservedCall, int]:
    """Run ``call(few)``, a call with few denoising steps, and if a component that takes a timestep
    stayed silent, ``call(all_steps)``: an expert for late steps has none in a short call.  So it is
    where a call cannot be that short: PNDM's Runge-Kutta steps need four.

    Returns what was observed, and the number of steps of the call that showed it.  A component that
    all steps left silent is in ``silent_denoisers``: whoever reads it says so.
    """
    try:
        observed = observe_call(pipeline, lambda: call(few))
    except DiffspeedError:
        raise
    except Exception:
        if all_steps <= few:
            raise  # else a call that cannot be made at all raises the same again
    else:
        if not observed.silent_denoisers or all_steps <= few:
            return observed, few
    return observe_call(pipeline, lambda: call(all_steps)), all_steps

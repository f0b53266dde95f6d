"""How many denoising steps an arm's calls have: the call that its stack makes, and what ran."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..common.arguments import shown
from ..common.errors import IncompatibleError, UsageError, WrongTypeError
from .observation import CallSteps
from .targets import PROOF_STEPS

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..pipelines.call import PipelineCall
    from .stacks import Stack

ARGUMENT = "num_inference_steps"
_INSTEAD = ("timesteps", "sigmas")
"""Arguments of a call that say how many steps it has, whatever :data:`ARGUMENT` says."""
_MEMO = "untouched call steps"


_EXAMPLE = (
    "write for example call=lambda pipeline, steps=20: pipeline('a fox', num_inference_steps=steps)"
)


def check_call(call: Callable[..., object]) -> None:
    """Refuse a call that does not take what it will be given, before it is spent on anything.

    Raises:
        UsageError: with what Python says, and what to write.
    """
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # not callable, or a callable that hides its signature
        if callable(call):
            return
        raise WrongTypeError(
            f"call must be a function of the pipeline, not {shown(call)}; {_EXAMPLE}"
        ) from None
    try:
        signature.bind(None)
        signature.bind(None, steps=PROOF_STEPS)
    except TypeError as error:
        raise UsageError(
            f"call is used as call(pipeline) and as call(pipeline, steps={PROOF_STEPS}), and this "
            f"one does not take that ({error}); {_EXAMPLE}"
        ) from None


def call_of(stack: Stack, pipeline: DiffusionPipeline, call: PipelineCall) -> PipelineCall:
    """The call that an arm with ``stack`` makes: ``call``, with the steps that the stack asks for.

    Raises:
        IncompatibleError: it cannot be made with them; the sentence says why.
    """
    steps = stack.call_steps
    if steps is None:
        return call
    why = _why_not(pipeline, call, steps)
    if why is not None:
        raise IncompatibleError(
            f"steps({steps}) is incompatible with {type(pipeline).__name__}: {why}"
        )
    return call.varied(steps=steps)


def with_steps(
    stack: Stack, pipeline: DiffusionPipeline, call: Callable[..., object]
) -> Callable[..., object]:
    """:func:`call_of` for any function that is called as ``call(pipeline, steps=2)``."""
    from ..pipelines.call import PipelineCall

    asked = stack.call_steps
    if asked is None:
        return call
    if isinstance(call, PipelineCall):
        return call_of(stack, pipeline, call)

    def asking(pipeline: DiffusionPipeline, steps: int = asked) -> object:
        return call(pipeline, steps=steps)

    return asking


def _why_not(pipeline: DiffusionPipeline, call: PipelineCall, steps: int) -> str | None:
    from ..pipelines.signature import call_signature

    signature = call_signature(pipeline)
    if not signature.may_take(ARGUMENT):
        return f"its call takes no `{ARGUMENT}`"
    for name in _INSTEAD:
        if call.own_arguments.get(name) is not None:
            return f"its source gives `{name}`, which says how many steps a call has; leave it out"
    strength: Any = call.own_arguments.get("strength", signature.default("strength"))
    # As diffusers' image-to-image pipelines count them (`get_timesteps`).
    if isinstance(strength, (int, float)) and int(steps * strength) < 1:
        return f"with its strength of {strength:g} none of {steps} is left; ask for more"
    return None


def counted_steps(pipeline: DiffusionPipeline, call: Callable[..., object]) -> CallSteps:
    """The denoising steps of one more whole call, which is not timed; compiled code runs eagerly
    in it.
    """
    from ..pipelines.observed import observe_call
    from ..pipelines.scheduler_watch import schedulers_of, watch_schedulers

    told: list[int] = []
    entries: list[int] = []

    def around(scheduler: Any, _: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def setting(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            told.extend(_numbers(args, kwargs))
            entries.append(len(getattr(scheduler, "timesteps", ())))
            return result

        return setting

    with ExitStack() as stack:
        known = schedulers_of(pipeline).values()
        stack.enter_context(watch_schedulers(around, known, ("set_timesteps",)))
        ran = observe_call(pipeline, lambda: call(pipeline)).steps
    return CallSteps(ran, tuple(told), sum(entries))


def _numbers(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int]:
    """For how many steps ``set_timesteps`` was called, by its first argument or by a schedule."""
    number = args[0] if args else kwargs.get(ARGUMENT)
    schedules = [kwargs[name] for name in _INSTEAD if kwargs.get(name) is not None]
    found = [len(one) for one in schedules]
    return [number, *found] if isinstance(number, int) else found


def untouched_steps(pipeline: DiffusionPipeline, call: Callable[..., object]) -> CallSteps:
    """:func:`counted_steps` of the pipeline without what changes them; a call that is of a
    :class:`~pytest_diffspeed.pipelines.call.PipelineCall` remembers it for all of its source.
    """
    from ..pipelines.call import PipelineCall

    if not isinstance(call, PipelineCall):
        return counted_steps(pipeline, call)
    key = (_MEMO, call.defaults.steps)
    if key not in call.memo:
        call.memo[key] = counted_steps(pipeline, call)
    found: CallSteps = call.memo[key]
    return found

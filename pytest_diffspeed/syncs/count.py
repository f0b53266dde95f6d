"""``count_syncs``: the host syncs of a pipeline, a scheduler or any callable."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import CodeType, MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from ..accelerators.accelerator import SyncCounter
from ..accelerators.simulated import weights_replaced
from ..adapters.attributes import replaced
from ..adapters.module_state import is_compiled
from ..adapters.offload_hooks import offload_hooks
from ..common.errors import SourceError, UsageError, nearest
from ..common.quiet import third_party
from ..simgpu import SyncEvent, SyncLog
from .allowances import Allowance, parse_allowances
from .backends import backend
from .position import Position, Tracker
from .report import Located, SyncReport, build_report
from .scheduler_drivers import drive

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SCOPES = ("scheduler.step", "denoising_loop", "call")
Scope = str | Callable[..., Any]
_PROMPT = "a red apple on a wooden table"


def count_syncs(
    target: Any,
    *,
    scope: Scope = "scheduler.step",
    device: str | torch.device | None = None,
    steps: int = 4,
    allow: Sequence[str] = (),
    **call_kwargs: Any,
) -> SyncReport:
    """Run ``target`` once on the device and count where the CPU waits for it.

    Args:
        target: a diffusers pipeline, a scheduler, or a function.  A pipeline is called once, with a
            copy of its scheduler, and is left as it was; a function is called ``steps`` times, with
            ``device=`` if it has such a parameter.
        scope: ``"scheduler.step"`` (with ``scale_model_input``), ``"denoising_loop"``, ``"call"``,
            or a function of which only what happens inside it counts.  A function as target has
            one scope, its call.
        device: ``None`` takes a real GPU if there is one and the simulated one otherwise;
            ``"simulated"``, ``"cuda"``, ``"cuda:N"``.
        steps: denoising steps; at least 1.
        allow: ``"file.py:123  # reason"`` or a pattern: syncs that are shown and not counted.
        call_kwargs: arguments of the call: of a pipeline, a function, or for a scheduler
            ``begin_index``, ``shape``, ``generator`` and further arguments of its ``step``.

    Raises:
        UsageError: an argument that makes no sense.
        SourceError: the target cannot run on this device.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps must be a whole number of at least 1, not {steps!r}")
    if isinstance(scope, str) and scope not in SCOPES:
        raise UsageError(f"scope={scope!r} is none; {nearest(scope, SCOPES)}")
    if not (isinstance(scope, str) or callable(scope)):
        raise UsageError(f"scope must be one of {', '.join(SCOPES)} or a function, not {scope!r}")
    allowances = parse_allowances(allow)
    with backend(device) as counter:
        return count_on(counter, target, scope, steps, allowances, call_kwargs)


def count_on(
    counter: SyncCounter,
    target: Any,
    scope: Scope,
    steps: int,
    allowances: Sequence[Allowance] = (),
    call_kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> SyncReport:
    """As :func:`count_syncs`, on a device that is open already."""
    with third_party():
        import diffusers
    given = dict(call_kwargs)
    if isinstance(target, diffusers.DiffusionPipeline):
        located, name, ran = _pipeline(counter, target, scope, steps, given)
    elif hasattr(target, "set_timesteps"):
        located, name, ran = _scheduler(counter, target, scope, steps, given)
    elif callable(target):
        located, name, ran = _callable(counter, target, scope, steps, given)
    else:
        raise UsageError(
            f"count_syncs() takes a pipeline, a scheduler or a function, not {target!r}"
        )
    return build_report(
        located,
        target=name,
        scope=_scope_name(scope),
        steps=max(ran, 1),
        evidence=counter.evidence,
        allowances=allowances,
        blind_spots=counter.blind_spots,
    )


def _pipeline(
    counter: SyncCounter,
    pipeline: DiffusionPipeline,
    scope: Scope,
    steps: int,
    given: dict[str, Any],
) -> tuple[list[Located], str, int]:
    tracker = Tracker()
    scheduler = getattr(pipeline, "scheduler", None)
    name = type(pipeline).__name__
    if scheduler is None or not hasattr(scheduler, "step"):
        if scope == "scheduler.step":
            raise SourceError(f"{name} has no scheduler with a `step`; use scope='call'")
    else:
        scheduler = copy.deepcopy(scheduler)
        name += f" with {type(scheduler).__name__}"
    arguments = _arguments(pipeline, steps, given, whole=scope != "scheduler.step")
    with ExitStack() as stack:
        stack.enter_context(third_party())  # before the recording, which listens to warnings
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(_placed(counter, pipeline))
        if scheduler is not None:
            stack.enter_context(replaced(pipeline, "scheduler", scheduler))
            _watch_scheduler(stack, tracker, scheduler)
        if hasattr(pipeline, "progress_bar"):
            bar = tracker.loop(pipeline.progress_bar)
            stack.enter_context(replaced(pipeline, "progress_bar", bar))
        log = stack.enter_context(
            counter.record(tracker.here, compiled=not counter.simulated and _compiled(pipeline))
        )
        pipeline(**arguments)
    if scheduler is not None and not tracker.finished:
        raise SourceError(
            f"{name}: a call ran no scheduler.step, so no step was counted; give the arguments "
            "with which the pipeline denoises"
        )
    return _locate(log, scope, tracker.finished), name, tracker.finished


def _scheduler(
    counter: SyncCounter, scheduler: Any, scope: Scope, steps: int, given: dict[str, Any]
) -> tuple[list[Located], str, int]:
    tracker = Tracker()
    own = copy.deepcopy(scheduler)
    with ExitStack() as stack:
        stack.enter_context(third_party())  # before the recording, which listens to warnings
        stack.enter_context(torch.random.fork_rng(devices=[]))
        _watch_scheduler(stack, tracker, own)
        log = stack.enter_context(counter.record(tracker.here))
        with torch.no_grad():
            drive(own, tracker, counter.device, steps, **given)
    if not tracker.finished:
        raise SourceError(f"{type(own).__name__}: no step ran")
    return _locate(log, scope, tracker.finished), type(own).__name__, tracker.finished


def _callable(
    counter: SyncCounter,
    function: Callable[..., Any],
    scope: Scope,
    steps: int,
    given: dict[str, Any],
) -> tuple[list[Located], str, int]:
    if scope == "denoising_loop":
        raise UsageError("scope='denoising_loop' needs a pipeline or a scheduler, not a function")
    tracker = Tracker()
    arguments = dict(given)
    if "device" in _parameters(function):
        arguments.setdefault("device", counter.device)
    with counter.record(tracker.here) as log:
        for _ in range(steps):
            function(**arguments)
            tracker.next_step()
    name = getattr(function, "__qualname__", type(function).__name__)
    return _locate(log, scope if callable(scope) else "each", steps), name, steps


def _locate(log: SyncLog, scope: Scope, steps: int) -> list[Located]:
    """The syncs inside the scope, each with its step."""
    code = None if isinstance(scope, str) else _code(scope)
    located = []
    for event in log.events:
        position = event.tag
        assert isinstance(position, Position), "unreachable because the tracker tags each event"
        step: int | None = min(position.step, steps - 1)
        if code is not None:
            if not _inside(event, code):
                continue
        elif scope == "scheduler.step":
            if not position.in_step:
                continue
        elif scope == "denoising_loop":
            if not position.in_loop:
                continue
        elif scope == "call" and not position.in_loop:
            step = None
        located.append(Located(event, step))
    return located


def _inside(event: SyncEvent, code: CodeType) -> bool:
    return any(site.code is code for site in event.stack)


def _code(function: Callable[..., Any]) -> CodeType:
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    inner = getattr(inner, "__func__", inner)
    code = getattr(inner, "__code__", None)
    if code is None:  # an object that is called like a function
        code = getattr(type(inner).__call__, "__code__", None)
    if not isinstance(code, CodeType):
        raise UsageError(f"scope={function!r} is no Python function, so nothing is seen inside it")
    return code


def _scope_name(scope: Scope) -> str:
    if isinstance(scope, str):
        return scope
    return str(getattr(scope, "__qualname__", type(scope).__name__))


def _watch_scheduler(stack: ExitStack, tracker: Tracker, scheduler: Any) -> None:
    for name in ("scale_model_input", "step"):
        function = getattr(scheduler, name, None)
        if function is not None:
            watched = tracker.step(function, ends_step=name == "step")
            stack.enter_context(replaced(scheduler, name, watched))


@contextmanager
def _placed(counter: SyncCounter, pipeline: DiffusionPipeline) -> Iterator[None]:
    """The pipeline's weights on the device, for a while."""
    from ..pipelines.components import modules

    if counter.simulated:
        with weights_replaced(modules(pipeline), counter.place):
            yield
        return
    if any(offload_hooks(part) for part in modules(pipeline).values()):
        yield  # its hooks place it, and diffusers refuses to move it
        return
    before = pipeline.device
    pipeline.to(counter.device)
    try:
        yield
    finally:
        pipeline.to(before)


def _compiled(pipeline: DiffusionPipeline) -> bool:
    from ..pipelines.components import modules

    return any(is_compiled(part) for part in modules(pipeline).values())


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins
        return frozenset()


def _arguments(
    pipeline: DiffusionPipeline, steps: int, given: dict[str, Any], *, whole: bool
) -> dict[str, Any]:
    """The user's arguments over defaults that any pipeline can be called with."""
    accepted = _parameters(type(pipeline).__call__)
    defaults = {
        "prompt": None if "prompt_embeds" in given else _PROMPT,
        "num_inference_steps": steps,
        "output_type": "pt" if whole else "latent",
        "return_dict": False,
    }
    return {
        **{key: value for key, value in defaults.items() if key in accepted and value is not None},
        **given,
    }

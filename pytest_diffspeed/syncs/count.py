"""``count_syncs``: the host syncs of a pipeline, a scheduler or any callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import torch

from ..accelerators.accelerator import SyncCounter
from ..common.arguments import require_known, shown, whole_number
from ..common.errors import UsageError, WrongTypeError
from ..common.lazy_results import refuse_unfinished
from ..common.quiet import third_party
from ..common.text import plural
from ..pipelines.scheduler_watch import state_restored, watch_schedulers
from .allowances import Allowance, parse_allowances
from .backends import backend
from .function_calls import watch_calls
from .pipeline_target import count_pipeline
from .position import Tracker
from .report import Counted, SteppedScheduler, SyncReport, build_report
from .scheduler_drivers import arguments_of, drive
from .scopes import (
    OWN_ARGUMENTS,
    Scope,
    check_scope,
    code_of,
    locate,
    require_called,
    require_loop,
    scope_name,
)


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

    Returns:
        The syncs of the first step, of each further one and outside of them, with their lines.

    Raises:
        UsageError: an argument that makes no sense (a WrongTypeError, which is a TypeError too,
            where it is of another type or the target does not take it), or a scope in which nothing
            ran: on the simulated GPU, a function of which no operation ran on the device.
        SourceError: the target cannot run on this device.
    """
    whole_number("steps", steps, least=1)
    check_scope(scope)
    _check_target(target)
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
    if isinstance(target, diffusers.ModularPipeline):
        raise UsageError(
            f"count_syncs() cannot tell the steps of a {type(target).__name__}, a ModularPipeline; "
            "count a DiffusionPipeline with the same components"
        )
    if isinstance(target, diffusers.DiffusionPipeline):
        counted = count_pipeline(counter, target, scope, steps, call_kwargs)
    elif hasattr(target, "set_timesteps"):
        counted = _scheduler(counter, target, scope, steps, call_kwargs)
    else:
        counted = _callable(counter, target, scope, steps, call_kwargs)
    return build_report(
        counted,
        scope=scope_name(scope),
        evidence=counter.evidence,
        allowances=allowances,
        blind_spots=counter.blind_spots,
    )


def _check_target(target: object) -> None:
    """Refuse what has no call to count in.

    Raises:
        WrongTypeError: a class, or something that cannot be called.
    """
    takes = "count_syncs() takes a pipeline, a scheduler or a function"
    if isinstance(target, type):
        raise WrongTypeError(f"{takes}, not the class {target.__name__}; give an instance of it")
    if not (callable(target) or hasattr(target, "set_timesteps")):
        pipeline = "; load_pipeline() makes a pipeline of it" if isinstance(target, str) else ""
        raise WrongTypeError(f"{takes}, not {shown(target)}{pipeline}")


def _scheduler(
    counter: SyncCounter, scheduler: Any, scope: Scope, steps: int, given: Mapping[str, Any]
) -> Counted:
    name = type(scheduler).__name__
    require_known(f"count_syncs() of a {name}", given, [*OWN_ARGUMENTS, *arguments_of(scheduler)])
    tracker = Tracker()
    with ExitStack() as stack:
        stack.enter_context(third_party())  # before the recording, which listens to warnings
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(state_restored([scheduler]))
        stack.enter_context(watch_schedulers(tracker.around(), [scheduler]))
        log = stack.enter_context(counter.record(tracker.here))
        was_called = stack.enter_context(watch_calls(code_of(scope))) if callable(scope) else None
        with torch.no_grad():
            drive(scheduler, counter.device, steps, on_loop=tracker.begin_loop, **given)
        called = was_called() if was_called is not None else True
    timeline = tracker.timeline()
    require_loop(scope, timeline, name, [name])
    located = locate(log, scope, timeline)
    if callable(scope):
        require_called(scope, bool(located) or called, name)
    stepped = SteppedScheduler("scheduler", name, timeline.steps)
    return Counted(tuple(located), name, timeline.steps, (stepped,))


def _callable(
    counter: SyncCounter,
    function: Callable[..., Any],
    scope: Scope,
    steps: int,
    given: Mapping[str, Any],
) -> Counted:
    if scope == "denoising_loop":
        raise UsageError("scope='denoising_loop' needs a pipeline or a scheduler, not a function")
    tracker = Tracker()
    arguments = dict(given)
    name = str(getattr(function, "__qualname__", type(function).__name__))
    if "device" in _parameters(function):
        arguments.setdefault("device", counter.device)
    _check_call(name, function, arguments)
    with ExitStack() as stack:
        log = stack.enter_context(counter.record(tracker.here))
        was_called = stack.enter_context(watch_calls(code_of(scope))) if callable(scope) else None
        for _ in range(steps):
            result = tracker.each_call(lambda: function(**arguments))
            refuse_unfinished(result, f"a call of {name}")
        called = was_called() if was_called is not None else True
    located = locate(log, scope if callable(scope) else "call", tracker.timeline())
    if callable(scope):
        require_called(scope, bool(located) or called, name)
    if counter.simulated and not (log.device_ops or log.events):
        raise UsageError(
            f"nothing ran on the device in {plural(steps, 'call')} of {name}, so there was nothing "
            f"to count; let it take `device` and make its tensors there ({counter.device})"
        )
    return Counted(tuple(located), name, steps)


def _check_call(name: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse a function that cannot be called with these arguments, before it is.

    Raises:
        WrongTypeError: with what Python says, and what to write.
    """
    try:
        # Of a module `__call__` says nothing.
        called = function.forward if isinstance(function, torch.nn.Module) else function
        inspect.signature(called).bind(**arguments)
    except ValueError:  # a builtin that hides its signature
        return
    except TypeError as error:
        raise WrongTypeError(
            f"{name} is called with the keywords that count_syncs() was given, and does not take "
            f"that ({error}); write for example count_syncs(lambda: module(sample), …)"
        ) from None


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins
        return frozenset()

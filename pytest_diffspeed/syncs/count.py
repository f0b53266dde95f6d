"""``count_syncs``: the host syncs of a pipeline, a scheduler or any callable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import torch

from ..accelerators.accelerator import SyncCounter
from ..common.errors import UsageError
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
from .scheduler_drivers import drive
from .scopes import Scope, check_scope, code_of, locate, require_called, require_loop, scope_name


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
        UsageError: an argument that makes no sense, or a scope in which nothing ran: on the
            simulated GPU, a function of which no operation ran on the device.
        SourceError: the target cannot run on this device.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise UsageError(f"steps must be a whole number of at least 1, not {steps!r}")
    check_scope(scope)
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
    if isinstance(target, type):
        raise UsageError(
            f"count_syncs() takes a pipeline, a scheduler or a function, not the class "
            f"{target.__name__}; give an instance of it"
        )
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
    elif callable(target):
        counted = _callable(counter, target, scope, steps, call_kwargs)
    else:
        raise UsageError(
            f"count_syncs() takes a pipeline, a scheduler or a function, not {target!r}"
        )
    return build_report(
        counted,
        scope=scope_name(scope),
        evidence=counter.evidence,
        allowances=allowances,
        blind_spots=counter.blind_spots,
    )


def _scheduler(
    counter: SyncCounter, scheduler: Any, scope: Scope, steps: int, given: Mapping[str, Any]
) -> Counted:
    tracker = Tracker()
    name = type(scheduler).__name__
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
    if "device" in _parameters(function):
        arguments.setdefault("device", counter.device)
    name = str(getattr(function, "__qualname__", type(function).__name__))
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


def _parameters(function: Callable[..., Any]) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # builtins
        return frozenset()

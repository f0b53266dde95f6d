"""Which of the syncs of a call are inside the scope that was asked for."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import CodeType
from typing import Any

from ..common.errors import SourceError, UsageError, nearest
from ..simgpu import SyncEvent, SyncLog
from .position import Position, Timeline
from .report import Located
from .scope_names import SCOPES, ScopeName

Scope = ScopeName | Callable[..., Any]
OWN_ARGUMENTS = ("scope", "device", "steps", "allow")
"""Those of ``count_syncs``: one of them may be meant by a misspelt argument of the call."""


def check_scope(scope: object) -> None:
    """Refuse what is no scope.

    Raises:
        UsageError: with the nearest word.
    """
    if isinstance(scope, str) and scope not in SCOPES:
        raise UsageError(f"scope={scope!r} is none; {nearest(scope, SCOPES)}")
    if not (isinstance(scope, str) or callable(scope)):
        raise UsageError(f"scope must be one of {', '.join(SCOPES)} or a function, not {scope!r}")


def scope_name(scope: Scope) -> str:
    """For a report and for messages."""
    if isinstance(scope, str):
        return scope
    return str(getattr(scope, "__qualname__", type(scope).__name__))


def locate(log: SyncLog, scope: Scope, timeline: Timeline) -> list[Located]:
    """The syncs inside the scope, each with its step."""
    code = None if isinstance(scope, str) else code_of(scope)
    lines = _lines_of_the_loop(log, timeline)
    located = []
    for event in log.events:
        position = _position(event)
        in_loop = timeline.in_loop(position.at) or _path(event) in lines
        step = timeline.step(position.at) if in_loop or position.in_step else None
        inside = {
            "scheduler.step": position.in_step,
            "denoising_loop": in_loop,
            "call": True,
        }
        if _inside(event, code) if code is not None else inside[str(scope)]:
            located.append(Located(event, step))
    return located


def _lines_of_the_loop(log: SyncLog, timeline: Timeline) -> set[tuple[object, ...]]:
    """By call path, what ran between two steps.

    What a pipeline does in its first turn before it calls the denoiser, and in its last after the
    last step, is in the loop too: it is known by the same lines that run in the other turns.
    """
    return {_path(event) for event in log.events if timeline.in_loop(_position(event).at)}


def _path(event: SyncEvent) -> tuple[object, ...]:
    return tuple((site.file, site.line, site.function) for site in event.stack)


def _position(event: SyncEvent) -> Position:
    position = event.tag
    assert isinstance(position, Position), "unreachable because the tracker tags each event"
    return position


def _inside(event: SyncEvent, code: CodeType) -> bool:
    return any(site.code is code for site in event.stack)


def code_of(function: Callable[..., Any]) -> CodeType:
    """What runs when ``function`` is called.

    Raises:
        UsageError: it is not written in Python.
    """
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    inner = inspect.unwrap(inner)
    inner = getattr(inner, "__func__", inner)
    code = getattr(inner, "__code__", None)
    if code is None:  # an object that is called like a function
        code = getattr(inspect.unwrap(type(inner).__call__), "__code__", None)
    if not isinstance(code, CodeType):
        raise UsageError(f"scope={function!r} is no Python function, so nothing is seen inside it")
    return code


def require_called(scope: Scope, called: bool | None, target: str) -> None:
    """Refuse a scope in which nothing ran: it has no syncs for another reason than its code.

    Raises:
        UsageError: ``called`` is False, or None where it could not be told.
    """
    if called:
        return
    name = scope_name(scope)
    if called is None:
        raise UsageError(
            f"scope={name}: nothing was counted in it, and whether it was called cannot be told "
            "while a profiler runs; count without the profiler"
        )
    raise UsageError(
        f"scope={name}: `{name}` was not called in a call of {target}, so nothing was counted; "
        "name a function that it calls (the code of a compiled module is not called as Python)"
    )


def require_loop(scope: Scope, timeline: Timeline, target: str, schedulers: Iterable[str]) -> None:
    """Refuse to count steps where there were none.

    Raises:
        SourceError: with what was looked for.
    """
    if timeline.steps:
        return
    known = ", ".join(schedulers)
    if known:
        raise SourceError(
            f"{target}: no loop was seen: a call ran no scheduler.step ({known}), so no step was "
            "counted; give the arguments with which the pipeline denoises"
        )
    if scope in ("scheduler.step", "denoising_loop"):
        raise SourceError(
            f"{target}: no loop was seen: no scheduler stepped in a call (what steps has a `step` "
            "and a `set_timesteps`), so no step was counted; use scope='call'"
        )

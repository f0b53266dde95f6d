"""Syncs on a real GPU, in layers.

PyTorch's sync debug mode warns at each sync that its own CUDA calls make.  It is one switch for the
process, and Python's warning filters are another, so both are set for one recording and put back.
What it does not see is watched in Python: explicit synchronization and pageable ``non_blocking``
copies.  Tests run it on the simulated GPU, which warns where a real one would.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from ..adapters import op_watch
from ..adapters.attributes import replaced
from ..adapters.op_watch import RunningOp
from ..simgpu import SyncKind, SyncLog

MESSAGE = "called a synchronizing CUDA operation"
BLIND_SPOTS = (
    "syncs of libraries that call CUDA themselves (the sync debug mode is PyTorch's own)",
    "syncs of code that ignores all warnings while it runs (the sync debug mode warns)",
    "distributed and sparse operations, which the sync debug mode does not cover",
)
_PROTOTYPE = "Synchronization debug mode is a prototype feature"
_MODES = ("default", "warn", "error")
_MAY_COPY = ("to", "cuda", "copy_")


@contextmanager
def record_cuda(
    tag: Callable[[], object] | None = None, *, watch_ops: bool = True
) -> Iterator[SyncLog]:
    """Every sync that this thread makes meanwhile.

    ``watch_ops`` names the op and the kind of each, which takes a dispatch mode: not where compiled
    modules are called.  Without it most ops are ``unknown`` and their kinds ``unclassified``.
    """
    log = SyncLog(tag, skip=(__file__, op_watch.__file__))
    # Of this recording: other threads sync too, and the debug mode warns about theirs as well.
    active: ContextVar[bool] = ContextVar("active", default=False)
    watch = RunningOp()

    def add(kind: SyncKind, op: str) -> None:
        if active.get():
            log.add(kind, op)

    token = active.set(True)
    try:
        with ExitStack() as stack:
            _watch_explicit(stack, add)
            _watch_pageable(stack, add)
            stack.enter_context(watch if watch_ops else watch.of_direct_calls())
            stack.enter_context(_warnings(lambda: add(watch.next_kind(), watch.op)))
            yield log
    finally:
        active.reset(token)


@contextmanager
def _warnings(on_sync: Callable[[], None]) -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: Any, *args: Any, **kwargs: Any) -> None:
            if MESSAGE in str(message):
                on_sync()
            else:
                shown(message, category, *args, **kwargs)

        # Each time, wherever it happens; all other warnings go where they went.
        warnings.filterwarnings("always", message=f".*{MESSAGE}.*")
        # Said once a process when the mode is set: no error for who runs with `-W error`.
        warnings.filterwarnings("ignore", message=f".*{_PROTOTYPE}.*")
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(_MODES[before])


def _watch_explicit(stack: ExitStack, add: Callable[[SyncKind, str], None]) -> None:
    def around(
        function: Callable[..., Any], op: str, kind: SyncKind = SyncKind.SYNCHRONIZE
    ) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            add(kind, op)
            return function(*args, **kwargs)

        return watched

    for module in (torch.cuda, torch.accelerator):
        watched = around(module.synchronize, f"{module.__name__}.synchronize")
        stack.enter_context(replaced(module, "synchronize", watched))
    for module in (torch.cuda, torch.cuda.memory, torch.accelerator):
        op = f"{module.__name__}.empty_cache"
        emptied = around(module.empty_cache, op, SyncKind.EMPTY_CACHE)
        stack.enter_context(replaced(module, "empty_cache", emptied))
    for owner in (torch.cuda.Stream, torch.cuda.Event):
        before = owner.synchronize
        watched = around(before, f"torch.cuda.{owner.__name__}.synchronize")
        setattr(owner, "synchronize", watched)  # noqa: B010 - mypy refuses to assign to a method
        stack.callback(setattr, owner, "synchronize", before)


def _watch_pageable(stack: ExitStack, add: Callable[[SyncKind, str], None]) -> None:
    def around(function: Callable[..., Any], op: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            result = function(self, *args, **kwargs)
            asynchronous = kwargs.get("non_blocking") or any(arg is True for arg in args)
            if asynchronous and isinstance(result, torch.Tensor):
                other = args[0] if op == "copy_" and args else self
                if isinstance(other, torch.Tensor) and _crosses_pageable(other, result, op):
                    add(SyncKind.MAY_BLOCK, f"Tensor.{op}")
            return result

        return watched

    for op in _MAY_COPY:
        had = op in vars(torch.Tensor)
        before = getattr(torch.Tensor, op)
        setattr(torch.Tensor, op, around(before, op))
        stack.callback(_put_back, op, before, had)


def _put_back(op: str, before: Any, had: bool) -> None:
    if had:
        setattr(torch.Tensor, op, before)
    else:
        delattr(torch.Tensor, op)


def _crosses_pageable(source: torch.Tensor, result: torch.Tensor, op: str) -> bool:
    if (source.device.type == "cpu") == (result.device.type == "cpu"):
        return False
    if result.device.type == "cpu":
        return op == "copy_" and not result.is_pinned()  # `to` makes pinned memory
    return not source.is_pinned()

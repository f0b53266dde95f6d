"""Who is told of a sync: recordings of the thread that it came from, or that it works for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from .events import SyncLog


class Recordings:
    """The logs that are open on a device.

    A thread that opened the device itself is told of by its own logs alone.  One that did not was
    started by code that runs on the device, which mostly waits for it: all open logs hear of it, as
    CUDA's own sync debug mode, which knows no threads, tells of every one.
    """

    def __init__(self) -> None:
        self._own: ContextVar[tuple[SyncLog, ...]] = ContextVar("logs", default=())
        self._open: list[SyncLog] = []
        self._opened: Counter[int] = Counter()
        self._lock = threading.Lock()

    def listening(self) -> Sequence[SyncLog]:
        """Those that hear of what this thread does now."""
        own = self._own.get()
        if own or self._opened[threading.get_ident()]:
            return own
        return tuple(self._open)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """This thread has the device open meanwhile."""
        thread = threading.get_ident()
        self._opened[thread] += 1
        try:
            yield
        finally:
            self._opened[thread] -= 1

    @contextmanager
    def into(self, log: SyncLog) -> Iterator[SyncLog]:
        """``log`` is open meanwhile."""
        token = self._own.set((*self._own.get(), log))
        with self._lock:
            self._open.append(log)
        try:
            yield log
        finally:
            with self._lock:
                self._open.remove(log)
            self._own.reset(token)

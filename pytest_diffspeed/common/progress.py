"""Progress of long work on the terminal: compilation takes minutes and must not look hung."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEARTBEAT_S = 10.0


class Progress:
    """Writes lines through ``write``; on a terminal, :meth:`transient` overwrites one line.

    Without ``write`` (an xdist worker has no terminal) it is silent.
    """

    def __init__(
        self,
        write: Callable[[str], None] | None = None,
        rewrite: Callable[[str], None] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._rewrite = rewrite
        self._now = now
        self._last_transient = -HEARTBEAT_S

    def line(self, text: str) -> None:
        """One line that stays."""
        if self._write is not None:
            self._write(f"diffspeed: {text}")

    def transient(self, text: str) -> None:
        """A state that changes often: overwritten on a terminal, elsewhere a line now and then."""
        if self._rewrite is not None:
            self._rewrite(f"diffspeed: {text}")
        elif self._now() - self._last_transient >= HEARTBEAT_S:
            self._last_transient = self._now()
            self.line(text)

    @contextmanager
    def phase(self, text: str) -> Iterator[None]:
        """Say that something long begins, that it still runs, and how long it took."""
        if self._write is None:
            yield
            return
        started = self._now()
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_S):
                self.transient(f"{text}: {self._now() - started:.0f} s so far")

        self.line(f"{text} …")
        heart = threading.Thread(target=beat, name="diffspeed-progress", daemon=True)
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()
        self.line(f"{text}: {self._now() - started:.1f} s")

"""Work in forked processes, some at a time: what a hang or a crash leaves behind is kept.

Each is a fork, since importing torch and diffusers takes longer than most pipelines do.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

Pieces = Iterable[dict[str, Any]]
_POLL_S = 0.05


class Child:
    """Runs ``work()`` in a fork and collects the pieces that it gives.

    A piece ``{"begins": name}`` says what runs from now on; ``{"outcomes": {…}}`` adds to the
    outcomes that were found, everything else is kept as it is.
    """

    def __init__(self, work: Callable[[], Pieces], limit_s: float) -> None:
        self.started = time.monotonic()
        self._limit_s = limit_s
        receive, send = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _run(work, receive, send)
        os.close(send)
        os.set_blocking(receive, False)
        self._pipe = receive
        self._text = b""

    def poll(self) -> dict[str, Any] | None:
        """What was found, once the process ended or had its time; ``None`` before."""
        try:
            while piece := os.read(self._pipe, 1 << 16):
                self._text += piece
        except BlockingIOError:
            if time.monotonic() - self.started < self._limit_s:
                return None
            os.kill(self._pid, signal.SIGKILL)
        os.close(self._pipe)
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            return self._found()
        hung = time.monotonic() - self.started >= self._limit_s
        why = f"not done after {self._limit_s:.0f} s" if hung else f"the process ended with {code}"
        return self._found(why)

    def stop(self) -> None:
        """End it, whatever it does."""
        os.kill(self._pid, signal.SIGKILL)
        os.close(self._pipe)
        os.waitpid(self._pid, 0)

    def _found(self, problem: str = "") -> dict[str, Any]:
        """The pieces together.  A ``problem``, with which the process ended, is the outcome of what
        ran last.
        """
        # What a process that was killed wrote last may be half a line.
        lines = self._text.decode(errors="replace").split("\n")[:-1]
        found: dict[str, Any] = {"outcomes": {}, "ended": problem}
        running = "process"
        for piece in map(json.loads, lines):
            running = piece.pop("begins", running)
            found["outcomes"].update(piece.pop("outcomes", {}))
            found.update(piece)
        if problem:
            found["outcomes"][running] = {"verdict": "crash", "found": problem}
        return found


def _run(work: Callable[[], Pieces], receive: int, send: int) -> None:
    code = 1
    try:
        os.close(receive)
        with os.fdopen(send, "w", encoding="utf-8") as out:
            for piece in work():
                print(json.dumps(piece), file=out, flush=True)
        code = 0
    finally:
        os._exit(code)


def run_all(
    tasks: Sequence[tuple[str, Callable[[], Pieces]]], *, jobs: int, limit_s: float
) -> Iterator[tuple[str, dict[str, Any], float]]:
    """Each task's name, what it found and its seconds, as they end; ``jobs`` run at a time."""
    waiting = list(tasks)
    running: dict[str, Child] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                name, work = waiting.pop(0)
                running[name] = Child(work, limit_s)
            for name, child in list(running.items()):
                found = child.poll()
                if found is not None:
                    del running[name]
                    yield name, found, time.monotonic() - child.started
            time.sleep(_POLL_S)
    finally:
        for child in running.values():
            child.stop()

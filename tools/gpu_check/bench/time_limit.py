"""A limit on what cannot be asked to stop, such as a compilation."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Over(BaseException):
    """No ``Exception``: a library that goes on after those must not go on after this."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """What runs inside is interrupted after ``seconds``; in the main thread only, and not nested.

    Raises:
        TimeoutError: it was.
    """
    if seconds <= 0:
        raise TimeoutError("no time was left for it")

    def over(*_: Any) -> None:
        raise _Over

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Over:
        raise TimeoutError(f"it was not done after {seconds:.0f} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

"""Whether a function is called while something runs, wherever it is called from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any


@contextmanager
def watch_calls(code: CodeType) -> Iterator[Callable[[], bool | None]]:
    """Yields a function that says whether ``code`` has run in this thread since.

    ``None``: it cannot be told, since another profiler is at work.  Nothing is slower once it has
    run; until then, on Python before 3.12, each call of a function takes a little longer.
    """
    if sys.version_info >= (3, 12):
        with _monitored(code) as called:
            yield called
    else:
        with _profiled(code) as called:
            yield called


@contextmanager
def _profiled(code: CodeType) -> Iterator[Callable[[], bool | None]]:
    if sys.getprofile() is not None:
        yield lambda: None
        return
    seen = False

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        if frame.f_code is code and event == "call":
            seen = True
            sys.setprofile(None)

    sys.setprofile(look)
    try:
        yield lambda: seen
    finally:
        if sys.getprofile() is look:
            sys.setprofile(None)


@contextmanager
def _monitored(code: CodeType) -> Iterator[Callable[[], bool | None]]:
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009 (mypy checks against Python 3.10)
    # The lower numbers are taken by convention: debuggers, coverage, profilers.
    tool = next((n for n in (4, 3) if monitoring.get_tool(n) is None), None)
    if tool is None:
        yield lambda: None
        return
    seen = False

    def look(_: CodeType, __: int) -> object:
        nonlocal seen
        seen = True
        return monitoring.DISABLE

    start = monitoring.events.PY_START
    monitoring.use_tool_id(tool, "pytest-diffspeed")
    monitoring.register_callback(tool, start, look)
    monitoring.set_local_events(tool, code, start)
    try:
        yield lambda: seen
    finally:
        monitoring.set_local_events(tool, code, 0)
        monitoring.register_callback(tool, start, None)
        monitoring.free_tool_id(tool)

"""How often given source lines run in one call.  Knows no torch."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any


def count_lines(
    call: Callable[[], object], lines: Collection[tuple[str, int]]
) -> Counter[tuple[str, int]]:
    """Run ``call()`` and count the runs of each ``(file, line)``.

    Uses Python's trace function, only in functions of those files, and puts back the one that was
    there (a debugger's, a coverage tool's).
    """
    counts: Counter[tuple[str, int]] = Counter()
    files = {file for file, _ in lines}

    def in_function(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            place = frame.f_code.co_filename, frame.f_lineno
            if place in lines:
                counts[place] += 1
        return in_function

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return in_function if frame.f_code.co_filename in files else None

    before = sys.gettrace()
    sys.settrace(on_call)
    try:
        call()
    finally:
        sys.settrace(before)
    return counts

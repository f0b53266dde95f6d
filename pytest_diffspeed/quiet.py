"""Third parties warn and log while they are imported, loaded and compiled; that is not our user's.

A session that runs with ``-W error`` would turn those warnings into failures, so everything that
only calls into torch, diffusers or transformers runs inside :func:`third_party`.  Code of the
user's (test bodies, factories) never does.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# torch's structured trace: thousands of records a compilation, meant for its own handler alone.
# Pytest captures every record that reaches the root logger, which slows compilation down and buries
# a failing test's log.
_TRACE_LOGGER = "torch.__trace"


@contextmanager
def third_party() -> Iterator[None]:
    """Ignore warnings and torch's trace records inside; all is restored afterwards."""
    trace = logging.getLogger(_TRACE_LOGGER)
    propagate = trace.propagate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace.propagate = False
        try:
            yield
        finally:
            trace.propagate = propagate

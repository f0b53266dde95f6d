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
# Pytest captures every record that reaches the root logger, and since 9.2 also those of loggers
# that do not propagate (it adds its handlers to them), which slows compilation down and buries a
# failing test's log.
_TRACE_LOGGER = "torch.__trace"


@contextmanager
def third_party() -> Iterator[None]:
    """Ignore warnings and torch's trace records inside; all is restored afterwards."""
    trace = logging.getLogger(_TRACE_LOGGER)
    propagate = trace.propagate
    # Torch's own stay: with TORCH_TRACE in the environment somebody asked for them.
    others = [one for one in trace.handlers if type(one).__module__.partition(".")[0] != "torch"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace.propagate = False
        for handler in others:
            trace.removeHandler(handler)
        try:
            yield
        finally:
            trace.propagate = propagate
            for handler in others:
                trace.addHandler(handler)

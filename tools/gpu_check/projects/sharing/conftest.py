"""Notes when this process holds the device's lock and when it times; changes nothing of either."""

import os
import time
from contextlib import contextmanager

from shared_notes import note


def pytest_sessionstart(session):
    if not session.config.getoption("--diffspeed", default=False):
        return
    import pytest_diffspeed.arms.session as ours

    plain_lock, plain_clock = ours.device_lock, ours.clock_for
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")

    @contextmanager
    def noted_lock(key, *, shared=False, **more):
        asked = time.monotonic()
        with plain_lock(key, shared=shared, **more):
            held = time.monotonic()
            try:
                yield
            finally:
                now = time.monotonic()
                times = {"asked": asked, "began": held, "ended": now}
                note(kind="lock", worker=worker, shared=shared, key=key, **times)

    def noted_clock(device):
        clock = plain_clock(device)

        class NotedClock(type(clock)):
            def time(self, call):
                began = time.monotonic()
                found = super().time(call)
                note(kind="timed", worker=worker, began=began, ended=time.monotonic())
                return found

        clock.__class__ = NotedClock
        return clock

    ours.device_lock, ours.clock_for = noted_lock, noted_clock

"""A lock on a device across processes, so that no two timings run beside each other on it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import MeasurementError

WAIT_S = 3600.0
"""Longer than any one gate measures; a holder that died has released its lock already."""


def lock_path(device_key: str, folder: Path | None = None) -> Path:
    """Where the lock of a device lies: one for all processes with the same temporary folder."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", device_key)
    return (folder or Path(tempfile.gettempdir())) / f"pytest-diffspeed-{safe}.lock"


@contextmanager
def device_lock(
    device_key: str,
    *,
    on_wait: Callable[[], None] = lambda: None,
    folder: Path | None = None,
    wait_s: float = WAIT_S,
) -> Iterator[None]:
    """Hold the device; ``on_wait`` is called once if somebody else has it.

    Reentrant within a process per path only through nesting of one lock object, so do not nest.

    Raises:
        MeasurementError: nobody let go of it within ``wait_s``, or the file cannot be made.
    """
    path = lock_path(device_key, folder)
    lock = FileLock(path, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout:  # before OSError, of which it is one
        on_wait()
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise MeasurementError(
                f"another process (this is {os.getpid()}) has been timing on this device for "
                f"{wait_s:.0f} s and did not let go of {path}"
            ) from None
    except OSError as error:
        raise MeasurementError(f"cannot lock {path}: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()

"""A lock on a device across processes, so that no two timings run beside each other on it."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..common.errors import MeasurementError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

WAIT_S = 3600.0
"""Longer than any one gate measures; a holder that died has released its lock already."""
_POLL_S = 0.05


def lock_path(device_key: str, folder: Path | None = None) -> Path:
    """Where the lock of a device lies: one for all processes with the same temporary folder."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", device_key)
    return (folder or Path(tempfile.gettempdir())) / f"pytest-diffspeed-{safe}.lock"


@contextmanager
def device_lock(
    device_key: str,
    *,
    shared: bool = False,
    on_wait: Callable[[], None] = lambda: None,
    folder: Path | None = None,
    wait_s: float = WAIT_S,
) -> Iterator[None]:
    """Hold the device; ``on_wait`` is called once if somebody else has it.

    Those who use it without timing, as for drawing, take it ``shared``: beside each other, and
    never beside a timing (on Windows, which has no such locks, one after the other).  Reentrant
    within a process per path only through nesting of one lock object, so do not nest.

    Raises:
        MeasurementError: nobody let go of it within ``wait_s``, or the file cannot be made.
    """
    path = lock_path(device_key, folder)
    lock = SharedLock(path) if shared and SharedLock.is_possible else FileLock(path, mode=0o666)
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


class SharedLock:
    """A shared lock on the file that :class:`filelock.FileLock` locks exclusively on POSIX.

    filelock has a lock for readers and writers too, in a database file that only its first user can
    write to; machines with GPUs have several users.
    """

    is_possible = fcntl is not None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, timeout: float) -> None:
        """Wait for it.

        Raises:
            Timeout: somebody held it exclusively for ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not self._try():
            if time.monotonic() >= deadline:
                raise Timeout(str(self._path))
            time.sleep(_POLL_S)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # which lets go of the lock
            self._descriptor = None

    def _try(self) -> bool:
        assert fcntl is not None, "unreachable because `is_possible` was asked"
        # No link: in a folder of all users it could lead to somebody's own file.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            os.close(descriptor)
            raise OSError(errno.EEXIST, "what is there is not a lock of pytest-diffspeed")
        with suppress(PermissionError):  # made by another user, who let everybody write already
            os.fchmod(descriptor, 0o666)  # whatever the umask says
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:  # else its holder has deleted the file meanwhile
                self._descriptor = descriptor
                return True
        except BlockingIOError:
            pass
        os.close(descriptor)
        return False

"""Ends a worker whose parent is gone, whatever the worker is busy with.

The end of its orders ends an idle worker.  One that compiles for minutes, or hangs, would go on for
as long, and hold the device's memory, after its parent was killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path


def end_with_parent(pipe: int, folder: Path) -> None:
    """Watch ``pipe``, of which the parent alone holds the other end; ``folder`` goes as well.

    The thread that waits for it runs no Python meanwhile, so nothing that is timed is disturbed.
    """
    threading.Thread(target=_wait, args=(pipe, folder), name="diffspeed-watch", daemon=True).start()


def _wait(pipe: int, folder: Path) -> None:
    os.read(pipe, 1)
    shutil.rmtree(folder, ignore_errors=True)
    if os.getpgrp() == os.getpid():  # as the parent started it: with all that it started itself
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)

"""The size of inductor's pool of compiling threads.  Imports no torch."""

from __future__ import annotations

import sys


def set_compile_threads(threads: int) -> None:
    """Where inductor is imported already and has read its variable.

    ``torch._inductor.config.compile_threads``, seen in torch 2.14; where that is gone, the variable
    still counts in processes that are started later.
    """
    config = sys.modules.get("torch._inductor.config")
    if hasattr(config, "compile_threads"):
        config.compile_threads = threads  # type: ignore[union-attr]

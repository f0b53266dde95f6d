"""How many threads each worker of pytest-xdist may compile with.

Inductor gives every process a pool of as many threads as there are cores, so eight workers on eight
cores would compile with sixty-four: each is slower than alone, and some machines run out of memory.
"""

from __future__ import annotations

import os

import pytest

from ..adapters.compile_pool import set_compile_threads

VARIABLE = "TORCHINDUCTOR_COMPILE_THREADS"
"""Inductor reads it once, when it is imported, and processes that we start inherit it."""


def threads_of_worker(workers: int, cores: int) -> int:
    """At least one; together at most as many as there are cores, unless there are more workers."""
    return max(1, cores // max(1, workers))


def bound_compile_pool(config: pytest.Config) -> None:
    """In a worker: share the cores with the others, unless somebody chose a number already."""
    workers = workers_of(config)
    if workers is not None and hasattr(config, "workerinput") and VARIABLE not in os.environ:
        threads = threads_of_worker(workers, _cores())
        os.environ[VARIABLE] = str(threads)
        set_compile_threads(threads)


def sentence(config: pytest.Config) -> str | None:
    """What the session's head says of it in the controller; ``None`` without workers."""
    workers = workers_of(config)
    if workers is None:
        return None
    if VARIABLE in os.environ:
        return f"{workers} workers compile with {os.environ[VARIABLE]} threads each ({VARIABLE})"
    threads = threads_of_worker(workers, _cores())
    each = "1 thread" if threads == 1 else f"{threads} threads"
    return (
        f"{workers} workers share {_cores()} cores, so each compiles with {each}; {VARIABLE} "
        "chooses another number"
    )


def workers_of(config: pytest.Config) -> int | None:
    """Of pytest-xdist, all that the session has; ``None`` where it has none.

    Workers on other machines count too: how many of them share one is not told to them.
    """
    if hasattr(config, "workerinput"):
        return int(config.workerinput.get("workercount", 1))
    if getattr(config.option, "dist", "no") == "no":
        return None
    specs = [spec.partition("*")[0] for spec in getattr(config.option, "tx", None) or ()]
    return sum(int(many) if many.isdecimal() else 1 for many in specs) or None


def _cores() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1

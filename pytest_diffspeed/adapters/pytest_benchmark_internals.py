"""Our arms in pytest-benchmark's table and in its ``--benchmark-json``.

pytest-benchmark has no public way to add a measurement that its own fixture did not take.  Used
here, as seen in 5.3.1: ``config._benchmarksession`` with ``benchmarks``, ``disabled`` and ``skip``,
and ``pytest_benchmark.stats.Metadata`` with the attributes that it reads of a fixture.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any


def add_arm(
    config: Any,
    test: str,
    claim: str,
    arm: str,
    seconds: Sequence[float],
    extra_info: Mapping[str, Any],
) -> None:
    """One row: the times of ``arm``, in seconds, in a group of the test's and the gate's own.

    ``config`` is pytest's.  Does nothing where pytest-benchmark is absent or switched off (as it is
    under xdist).
    """
    session: Any = getattr(config, "_benchmarksession", None)
    if session is None or session.disabled or session.skip:
        return
    from pytest_benchmark.stats import Metadata

    fixture = SimpleNamespace(
        name=f"{test.rpartition('::')[2]} {arm}",
        fullname=f"{test} {claim}: {arm}",  # the name by which its `compare` finds a row again
        group=f"{test} {claim}",
        param=None,
        params=None,
        extra_info={"diffspeed": dict(extra_info)},
        cprofile_stats=None,
        has_error=False,
    )
    row = Metadata(fixture, iterations=1, options={"disable_gc": True, "timer": time.perf_counter})
    for duration in seconds:
        row.stats.update(duration)
    session.benchmarks.append(row)

"""The JSON that pytest-benchmark writes, for its own ``compare`` and what else reads it.

That format holds durations and nothing else.  By default a row is the candidate's *share of the
baseline's time*, pair by pair: one "second" in it is one call of the baseline, so smaller is better
as pytest-benchmark expects, ``ops`` is about the ratio, and files of two machines may be compared.
With milliseconds each arm is a row with the seconds of its calls.

Read off pytest-benchmark 5.3.1: ``compare`` takes ``benchmarks``, and of each ``name``,
``fullname``, ``group``, ``param``, ``params``, ``options`` and every field of ``stats``.
"""

from __future__ import annotations

import json
import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from ...records.devices import Places
from ...records.reader import RecordedGate
from ...records.verdict import RATIO, SECONDS
from .export_format import Exported, Format
from .figures import gate_name, is_number, one_line

VERSION = "5.3.1"
"""The pytest-benchmark whose format this is."""


def render(exported: Exported) -> dict[str, str]:
    """One file with a group for each gate on a ratio; counts and similarity have no place in it."""
    places = Places(exported.session)
    rows = [
        row
        for part in exported.session.sessions
        for gate in part.latest
        for row in _rows(gate, exported.milliseconds, places.of(part, gate.result.test))
    ]
    if not rows:
        return {}
    about = exported.session.about
    environment = about.get("environment")
    whole = {
        "machine_info": environment if isinstance(environment, dict) else {},
        "commit_info": {
            "id": about.get("commit") or "unknown",
            "time": about.get("committed_at"),
            "author_time": about.get("committed_at"),
            "dirty": bool(about.get("dirty")),
            "project": "unknown",
            "branch": "(unknown)",
        },
        "benchmarks": rows,
        "datetime": about.get("at"),
        "version": VERSION,
    }
    return {"": json.dumps(whole, indent=1) + "\n"}


def _rows(gate: RecordedGate, milliseconds: bool, where: str) -> Iterator[dict[str, Any]]:
    result = gate.result
    pairs = [pair for pair in gate.pairs if pair.dropped is None]
    if not pairs:
        return
    over = str(result.figures.get("over", "unknown"))
    on = f" on {where}" if where else ""
    called = one_line(f"{result.test.rpartition('::')[2]} {result.stack}{on}")
    full = gate_name(result.test, result.stack, result.claim, where)
    arms: list[tuple[str, list[float]]]
    if milliseconds:
        unit = "seconds"
        arms = [
            (over, [pair.baseline_s for pair in pairs]),
            (result.stack, [pair.candidate_s for pair in pairs]),
        ]
    else:
        unit = f"share of {over}'s time"
        arms = [(unit, [pair.candidate_s / pair.baseline_s for pair in pairs])]
    for arm, values in arms:
        stats = _stats(values)
        if not all(is_number(stats[field]) for field in ("min", "max", "ops", "total", "stddev")):
            continue  # only of a file that no session wrote: durations at the ends of doubles
        yield {
            "group": f"{full} ({unit})",
            "name": f"{called}: {arm}",
            "fullname": f"{full}: {arm}",
            "params": None,
            "param": None,
            "extra_info": {"diffspeed": {"verdict": str(result.verdict), "unit": unit}},
            "options": {
                "disable_gc": True,
                "timer": "perf_counter",
                "min_rounds": 1,
                "max_time": 0.0,
                "min_time": 0.0,
                "warmup": False,
            },
            "stats": stats,
        }


def _stats(values: Sequence[float]) -> dict[str, Any]:
    """The fields that pytest-benchmark derives from the values; quartiles are its own too."""
    data = sorted(values)
    # `sum` and `statistics.stdev` end in other digits on other Pythons.
    mean, total = statistics.mean(data), math.fsum(data)
    squares = math.fsum((x - mean) ** 2 for x in data)
    deviation = math.sqrt(squares / (len(data) - 1)) if len(data) > 1 else 0.0
    q1, q3 = _quartiles(data)
    iqr = q3 - q1
    fence = (q1 - 1.5 * iqr, q3 + 1.5 * iqr)
    beyond_deviation = sum(not mean - deviation <= x <= mean + deviation for x in data)
    beyond_fence = sum(not fence[0] <= x <= fence[1] for x in data)
    return {
        "min": data[0],
        "max": data[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond_fence,
        "stddev_outliers": beyond_deviation,
        "outliers": f"{beyond_deviation};{beyond_fence}",
        "ld15iqr": data[bisect_left(data, fence[0])],
        "hd15iqr": data[bisect_right(data, fence[1]) - 1],
        "ops": len(data) / total if total else 0.0,
        "total": total,
        "data": list(values),
        "iterations": 1,
    }


def _quartiles(data: Sequence[float]) -> tuple[float, float]:
    """The mean of the two usual ways for an odd number of values (Tukey's hinges and the halves
    without the median), the medians of the halves for an even one.
    """
    size = len(data)
    if size == 1:
        return data[0], data[0]
    half = size // 2
    if size % 2 == 0:
        return statistics.median(data[:half]), statistics.median(data[half:])
    inner = statistics.median(data[: half + 1]), statistics.median(data[half:])
    outer = statistics.median(data[:half]), statistics.median(data[half + 1 :])
    return (inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2


FORMATS = (
    Format(
        "pytest-benchmark",
        "JSON that `pytest-benchmark compare` reads: gates on a ratio",
        render,
        kinds=(RATIO, SECONDS),
    ),
)

"""What benchmarks that repeat a trial share: their file, and how their figures are told.

Trials are appended to the file as they end, so that a run can be stopped and gone on with.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from pytest_diffspeed.accelerators.catalog.cpu import cpu_name
from pytest_diffspeed.evidence.key import installed_version


def append(path: Path, trial: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(trial) + "\n")


def read(path: Path) -> list[dict]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def collect(path: Path, wanted: int, trial: Callable[[], dict]) -> list[dict]:
    """All trials of the file, once it has as many as are wanted."""
    while len(read(path)) < wanted:
        append(path, trial())
        known = read(path)
        print(f"trial {len(known)}: {json.dumps(known[-1])[:200]} …", file=sys.stderr, flush=True)
    return read(path)


def moment() -> dict:
    """When a trial ended, and how busy the machine was."""
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"at": at, "load": os.getloadavg()[0]}


def spread(values: Sequence[float]) -> str:
    """From the tenth to the ninetieth of a hundred."""
    ordered = sorted(values)
    low, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.1, 0.9))
    return f"{low:.3g}–{high:.3g}"


def measured_on() -> str:
    """The processor and the versions, as the last line of a report."""
    versions = ", ".join(
        f"{name} {installed_version(name)}" for name in ("torch", "diffusers", "pytest-diffspeed")
    )
    return f"measured on {cpu_name()}; {versions}; Python {platform.python_version()}"

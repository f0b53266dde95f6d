"""The processor."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from ..accelerator import Accelerator, Disturbance
from ..clock import StampClock
from ..device import Device
from ..disturbances import OtherProcesses, StolenTime, Throttling, processor_throttles
from ..features import (
    BFLOAT16,
    FAST_ATTENTION_IN_FLOAT32,
    FLASH_ATTENTION,
    FLOAT8,
    INT8,
    INT8_OF_ANY_SHAPE,
)

T = TypeVar("T")


class WallClock:
    """The CPU's clock.  ``now`` is injectable and must not run backwards."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now

    def time(self, call: Callable[[], T]) -> tuple[float, T]:
        started = self._now()
        result = call()
        return self._now() - started, result

    def prepare(self) -> None:
        """Nothing to wait for: the CPU works while we do."""

    def stamp(self) -> float:
        return self._now()

    def seconds(self, stamps: Sequence[float]) -> list[float]:
        return [stamp - stamps[0] for stamp in stamps]


class Cpu(Accelerator):
    """Nobody counts its memory: the resident set size of the process holds the libraries, the other
    arms and what the C allocator keeps for later.
    """

    kind: ClassVar[str] = "cpu"
    is_numbered: ClassVar[bool] = False
    features: ClassVar[frozenset[str]] = frozenset(
        feature.name
        for feature in (
            BFLOAT16,
            INT8,
            INT8_OF_ANY_SHAPE,
            FLOAT8,
            FLASH_ATTENTION,
            FAST_ATTENTION_IN_FLOAT32,
        )
    )

    def is_available(self) -> bool:
        return True

    def device(self, asked: str, index: int | None) -> Device:
        return Device("cpu", None, cpu_name(), "cpu")

    def clock(self, device: Device) -> StampClock:
        return WallClock()

    def disturbances(self, device: Device) -> tuple[Disturbance, ...]:
        if os.name != "posix":
            return ()
        return (StolenTime(), OtherProcesses(), Throttling(processor_throttles))


def cpu_name() -> str:
    """The processor's model name and the number of cores this process may use."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return f"{model}, {cores} core{'s' if cores > 1 else ''}"


ACCELERATOR = Cpu()

"""What ``torch.profiler`` wrote: the kernels and the waits of labelled pieces of code.

Read from the Chrome trace, whose categories are the same for years: ``cuda_runtime`` and
``cuda_driver`` (calls of the CPU), ``kernel``, ``gpu_memcpy``, ``gpu_memset`` (what the device
ran, joined to its call by ``correlation``) and ``user_annotation`` (``record_function``).  A call
belongs to a label by time alone: one thread drives the device here.
"""

from __future__ import annotations

import bisect
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CALLS = ("cuda_runtime", "cuda_driver")
_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_WAITING = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "cuStreamSynchronize",
    "cuCtxSynchronize",
    "cuEventSynchronize",
)
# Copies that are no `…Async` return when they are done (CUDA's "API synchronization behavior").
_BLOCKING_COPIES = ("cudaMemcpy", "cudaMemcpy2D", "cuMemcpyDtoH_v2", "cuMemcpyHtoD_v2")


@dataclass
class Work:
    """What one label held.  ``calls`` by name; ``kernels``, ``copies`` and ``sets`` as they ran."""

    calls: Counter[str] = field(default_factory=Counter)
    kernels: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    sets: int = 0
    device_us: float = 0.0

    @property
    def waits(self) -> Counter[str]:
        """Calls that return when the device is done."""
        return Counter({name: count for name, count in self.calls.items() if is_wait(name)})

    @property
    def launches(self) -> int:
        """Calls that put a kernel on the device (not graphs, copies or sets)."""
        return sum(count for name, count in self.calls.items() if is_launch(name))


def is_wait(call: str) -> bool:
    return call in _WAITING or call in _BLOCKING_COPIES


def is_launch(call: str) -> bool:
    return "LaunchKernel" in call or "LaunchCooperativeKernel" in call


@dataclass(frozen=True)
class Label:
    name: str
    start: float
    end: float


class Trace:
    """The complete events (``ph: X``) of one trace."""

    def __init__(self, events: Sequence[Mapping[str, Any]]) -> None:
        self.labels: list[Label] = []
        calls: list[tuple[float, str, Any]] = []
        self._device: dict[Any, list[tuple[str, str, float]]] = {}
        for event in events:
            if event.get("ph") != "X":
                continue
            kind, name, start = event.get("cat"), str(event["name"]), float(event["ts"])
            correlation = (event.get("args") or {}).get("correlation")
            if kind == "user_annotation":
                self.labels.append(Label(name, start, start + float(event.get("dur", 0))))
            elif kind in _CALLS:
                calls.append((start, name, correlation))
            elif kind in _DEVICE:
                ran = (str(kind), name, float(event.get("dur", 0)))
                self._device.setdefault(correlation, []).append(ran)
        self._calls = sorted(calls, key=lambda call: call[0])
        self._starts = [call[0] for call in self._calls]

    @classmethod
    def read(cls, path: Path) -> Trace:
        with path.open(encoding="utf-8", errors="replace") as file:
            return cls(json.load(file)["traceEvents"])

    @property
    def saw_the_device(self) -> bool:
        """Whether there is any event of a GPU: without its permission CUPTI gives none."""
        return bool(self._device)

    def named(self, prefix: str) -> list[Label]:
        """Labels in order of time."""
        found = [label for label in self.labels if label.name.startswith(prefix)]
        return sorted(found, key=lambda label: label.start)

    def work_of(self, label: Label) -> Work:
        first = bisect.bisect_left(self._starts, label.start)
        last = bisect.bisect_right(self._starts, label.end)
        work = Work()
        for _, name, correlation in self._calls[first:last]:
            work.calls[name] += 1
            for kind, ran, us in self._device.get(correlation, ()):
                work.device_us += us
                if kind == "kernel":
                    work.kernels.append(ran)
                elif kind == "gpu_memcpy":
                    work.copies.append(ran)
                else:
                    work.sets += 1
        return work


class Recording:
    """Where :func:`profiled` leaves its trace."""

    trace: Trace


@contextmanager
def profiled(path: Path, device: str) -> Iterator[Recording]:
    """Profile what runs inside; the trace is there afterwards."""
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    recording = Recording()
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        yield recording
        if device == "cuda":
            torch.cuda.synchronize()  # what is still running belongs to the recording
    profiler.export_chrome_trace(str(path))
    recording.trace = Trace.read(path)
    path.unlink()  # tens of megabytes each

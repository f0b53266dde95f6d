"""Memory of the first GPU as its driver counts it, over all processes, sampled in a thread."""

from __future__ import annotations

import threading
import time
from typing import Any

MIB = 2**20
_EVERY_S = 0.1
_STEP = 8 * MIB
"""Smaller changes are not kept: a run's samples stay a short list."""


class DeviceMemory:
    """Asks NVIDIA's library, or torch where it is not installed (which costs this process a
    context: made here, so that it is in each reading).
    """

    def __init__(self) -> None:
        import torch

        self.samples: list[tuple[float, int]] = []
        self.most_by_process: dict[int, int] = {}
        self.problems: dict[str, int] = {}
        self._began = time.monotonic()
        self._over = threading.Event()
        self._library: Any = None
        self._handle: Any = None
        self._torch = torch
        try:
            import pynvml

            pynvml.nvmlInit()
            identity = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
            self._handle = self._by_uuid(pynvml, identity)
            self._library = pynvml
            self.used()
        except Exception as error:  # whatever it is, torch can tell the total
            self._problem(error)
            self._library = None
        self.source = "NVML" if self._library is not None else "torch.cuda.mem_get_info"

    def _by_uuid(self, library: Any, identity: str) -> Any:
        try:
            return library.nvmlDeviceGetHandleByUUID(f"GPU-{identity}".encode())
        except library.NVMLError as error:  # MIG, or a torch that tells no UUID
            self._problem(error)
            return library.nvmlDeviceGetHandleByIndex(0)

    def used(self) -> int:
        """Bytes that all processes and the driver hold."""
        if self._library is not None:
            return int(self._library.nvmlDeviceGetMemoryInfo(self._handle).used)
        free, total = self._torch.cuda.mem_get_info(0)
        return int(total - free)

    def processes(self) -> dict[int, int]:
        """Bytes by process, as far as the driver tells; numbers may be those of the host."""
        if self._library is None:
            return {}
        try:
            found = self._library.nvmlDeviceGetComputeRunningProcesses(self._handle)
            return {int(one.pid): int(one.usedGpuMemory or 0) for one in found}
        except Exception as error:  # containers may not be told
            self._problem(error)
            return {}

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="device-memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(5)

    def settled(self, at_most: int, wait_s: float) -> int:
        """What is used once it is at most so much, or after ``wait_s``."""
        deadline = time.monotonic() + wait_s
        while (used := self.used()) > at_most and time.monotonic() < deadline:
            time.sleep(0.2)
        return used

    def _watch(self) -> None:
        while not self._over.is_set():
            try:
                used = self.used()
                if not self.samples or abs(used - self.samples[-1][1]) >= _STEP:
                    self.samples.append((round(time.monotonic() - self._began, 2), used))
                for pid, held in self.processes().items():
                    self.most_by_process[pid] = max(held, self.most_by_process.get(pid, 0))
            except Exception as error:  # the figures so far stay
                self._problem(error)
            self._over.wait(_EVERY_S)

    def _problem(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"[:200]
        self.problems[text] = self.problems.get(text, 0) + 1

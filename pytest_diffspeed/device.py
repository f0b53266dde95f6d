"""Which device a session measures on, said once and never quietly another one."""

from __future__ import annotations

import fnmatch
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .adapters.nvml import driver_version
from .errors import UsageError

if TYPE_CHECKING:
    import torch

VALID = "auto, cpu, cuda or cuda:N"


@dataclass(frozen=True)
class Device:
    """``kind`` is ``cpu`` or ``cuda``; ``name`` is what the maker calls it; ``key`` identifies it
    among the processes of this machine (for the lock that keeps timings apart).  ``driver`` is the
    version of a GPU's driver, ``None`` where nobody tells.
    """

    kind: str
    index: int | None
    name: str
    key: str
    driver: str | None = None

    @property
    def torch_device(self) -> torch.device:
        import torch

        return torch.device(self.kind if self.index is None else f"{self.kind}:{self.index}")

    def matches(self, pattern: str) -> bool:
        """Whether a marker's ``device=`` means this one: ``cpu``, ``cuda`` or a name pattern."""
        return pattern in (self.kind, f"{self.kind}:{self.index}") or fnmatch.fnmatchcase(
            self.name.lower(), pattern.lower()
        )

    def __str__(self) -> str:
        return self.kind if self.index is None else f"{self.kind}:{self.index}"


def check_device_word(text: str) -> str:
    """Refuse a device that this version does not know, without importing torch."""
    if text in ("auto", "cpu", "cuda") or re.fullmatch(r"cuda:\d+", text):
        return text
    raise UsageError(f"{text!r} is no device that this version measures on; valid: {VALID}")


def resolve_device(text: str) -> Device:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into a device that is really there.

    Raises:
        UsageError: the word is not valid, or CUDA was asked for and is not there.  Asking for a
            GPU and getting the CPU would make every figure of the session a wrong one.
    """
    check_device_word(text)
    import torch

    if text == "cpu" or (text == "auto" and not torch.cuda.is_available()):
        return Device("cpu", None, cpu_name(), "cpu")
    if not torch.cuda.is_available():
        built = "has no CUDA support" if torch.version.cuda is None else "finds no CUDA device"
        raise UsageError(
            f"{text!r} was asked for, but torch {torch.__version__} {built} here; "
            "use --diffspeed-device=cpu, or run on a machine with a GPU"
        )
    index = int(text.partition(":")[2]) if ":" in text else torch.cuda.current_device()
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"{text!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices "
            f"(cuda:0 to cuda:{torch.cuda.device_count() - 1})"
        )
    properties = torch.cuda.get_device_properties(index)
    identity = str(getattr(properties, "uuid", index))
    return Device("cuda", index, properties.name, f"cuda-{identity}", driver_version())


def device_of_worker(text: str, worker: str | None, cuda_devices: int) -> str:
    """The device that a worker of pytest-xdist takes: one GPU each, in turn.

    ``worker`` is its name, as ``gw3``, and ``None`` where there are no workers; ``cuda_devices``
    counts the GPUs that this process sees.  A device that was asked for by its number stays.
    """
    number = re.fullmatch(r"gw([0-9]+)", worker or "")
    if number is None or text not in ("auto", "cuda") or cuda_devices < 2:
        return text
    return f"cuda:{int(number[1]) % cuda_devices}"


def visible_cuda_devices() -> int:
    """How many GPUs torch sees."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


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

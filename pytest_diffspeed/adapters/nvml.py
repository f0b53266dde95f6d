"""Why a GPU runs below its clock, and its driver, from NVIDIA's management library.

``nvidia-ml-py`` is an extra (``pip install 'pytest-diffspeed[gpu]'``): without it nothing is asked.
Written after NVML's documentation (nvmlDeviceGetCurrentClocksEventReasons).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

# Bits of nvmlClocksEventReasons that say that the device cannot go as fast as it was asked to.
# Idleness, a clock that the user set and a limit that others share are none.
_REASONS = {
    0x4: "its power limit",
    0x8: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "the power brake",
}


def throttle_reasons(key: str, index: int | None, library: Any = None) -> str | None:
    """The reasons that hold now, empty where there are none; ``None`` where nobody can tell.

    ``key`` and ``index`` are those of the device: NVML wants its UUID.
    """
    if library is None:
        library = _installed_library()
    if library is None:
        return None
    try:
        library.nvmlInit()  # counted by the library, and next to nothing when it is up
        handle = _handle(key, index, library)
        mask = library.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    except library.NVMLError:
        return None
    return " and ".join(reason for bit, reason in _REASONS.items() if mask & bit)


def driver_version(
    library: Any = None, kernel_module: Path = Path("/proc/driver/nvidia/version")
) -> str | None:
    """Of NVIDIA's driver, as ``580.95.05``; ``None`` where nobody tells.

    Where the library is not installed, Linux tells it of the kernel module.
    """
    if library is None:
        library = _installed_library()
    if library is not None:
        try:
            library.nvmlInit()
            found = library.nvmlSystemGetDriverVersion()
        except library.NVMLError:
            pass
        else:
            return found.decode() if isinstance(found, bytes) else str(found)
    try:
        first_line = kernel_module.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0]
    except OSError:
        return None
    version = re.search(r"\b\d{3,}(\.\d+)+\b", first_line)
    return None if version is None else version[0]


def _installed_library() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def _handle(key: str, index: int | None, library: Any) -> Any:
    """By UUID: NVML does not know of CUDA_VISIBLE_DEVICES, which renumbers devices."""
    identity = key.removeprefix("cuda-")
    if "-" in identity:
        return library.nvmlDeviceGetHandleByUUID(f"GPU-{identity}".encode())
    return library.nvmlDeviceGetHandleByIndex(index or 0)

"""What disturbs this machine: asked before each round, outside of what is timed.

Each looks at what happened since it was asked last, and says why the round that comes next does not
count, or nothing.  Why only the past may be looked at: :mod:`pytest_diffspeed.timing.validity`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


class StolenTime:
    """Time that the hypervisor gave to other guests while this one had work to do (Linux).

    ``/proc/stat`` counts in ticks of usually 10 ms, so a share is taken over at least
    :data:`MIN_BUSY_TICKS` of work: pairs that are shorter share one reading.
    """

    MAX_STOLEN = 0.05
    """As a share of the time in which the guest wanted to run: above the 1–2 % of a shared host
    that is not overbooked."""
    MIN_BUSY_TICKS = 100

    def __init__(self, read: Callable[[], str | None] | None = None) -> None:
        self._read = read or _proc_stat
        self._last = self._ticks()

    def __call__(self) -> str | None:
        now = self._ticks()
        if now is None or self._last is None:
            return None
        wanted, stolen = (new - old for new, old in zip(now, self._last, strict=True))
        if wanted < self.MIN_BUSY_TICKS:
            return None
        self._last = now
        share = stolen / wanted
        if share <= self.MAX_STOLEN:
            return None
        return f"the hypervisor gave {share:.0%} of the processor's time to others just before"

    def _ticks(self) -> tuple[int, int] | None:
        """Ticks in which the guest wanted to run, and those of them that were stolen."""
        text = self._read()
        if text is None:
            return None
        # cpu  user nice system idle iowait irq softirq steal (man 5 proc_stat)
        fields = [int(word) for word in text.split("\n", 1)[0].split()[1:9]]
        if len(fields) < 8:
            return None
        idle, iowait, stolen = fields[3], fields[4], fields[7]
        return sum(fields) - idle - iowait, stolen


def _proc_stat() -> str | None:
    try:
        return Path("/proc/stat").read_text(encoding="ascii")
    except OSError:  # not Linux, or not for us to read
        return None


class OtherProcesses:
    """Processor time that other processes took (Linux).

    What this process and its children used, worker processes among them, is not theirs.
    """

    MAX_SHARE = 0.25
    """Of all cores of the machine: above what a desktop or a CI agent does while nobody works on
    it.  The machine, since in a container its processes are not ours to see one by one."""
    MIN_SECONDS = 1.0
    """Of wall time between two readings; shorter rounds share one."""

    def __init__(
        self,
        read: Callable[[], tuple[float, float] | None] | None = None,
        now: Callable[[], float] = time.monotonic,
        cores: int | None = None,
    ) -> None:
        """``read`` gives processor seconds: that all processes used, and that we used."""
        self._read = read or _processor_seconds
        self._now = now
        self._cores = cores or os.cpu_count() or 1
        self._last_at, self._last = now(), self._read()

    def __call__(self) -> str | None:
        wall = self._now() - self._last_at
        if wall < self.MIN_SECONDS:  # before anything is read: that takes milliseconds
            return None
        found, before = self._read(), self._last
        self._last_at, self._last = self._now(), found
        if found is None or before is None:
            return None
        cores = (found[0] - before[0] - (found[1] - before[1])) / wall
        if cores <= self.MAX_SHARE * self._cores:
            return None
        return f"other processes used {cores:.1f} cores just before"


def _processor_seconds() -> tuple[float, float] | None:
    import psutil

    text = _proc_stat()
    if text is None:
        return None
    fields = [int(word) for word in text.split("\n", 1)[0].split()[1:8]]
    user, nice, system, _idle, _iowait, irq, softirq = fields
    used = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    ours = 0.0
    try:
        process = psutil.Process()
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            ours += times.user + times.system
        ended = process.cpu_times()  # children that were waited for are in here only
        ours += ended.children_user + ended.children_system
    except psutil.Error:  # a child ended while we looked
        return None
    return used, ours


class Throttling:
    """The device slowed itself down, for heat or for power.

    ``read`` gives a number that grows with each event, or a reason that holds now; ``None`` where
    the machine does not tell.
    """

    def __init__(self, read: Callable[[], int | str | None]) -> None:
        self._read = read
        self._last = read()

    def __call__(self) -> str | None:
        before, self._last = self._last, self._read()
        now = self._last
        if isinstance(now, str):
            return f"the device throttles: {now}" if now else None
        if isinstance(now, int) and isinstance(before, int) and now > before:
            return f"the processor throttled {now - before} times just before"
        return None


def processor_throttles(folder: Path = Path("/sys/devices/system/cpu")) -> int | None:
    """How often cores and packages throttled since the machine started (Linux, bare metal)."""
    counts = []
    for name in ("core_throttle_count", "package_throttle_count"):
        for path in folder.glob(f"cpu[0-9]*/thermal_throttle/{name}"):
            try:
                counts.append(int(path.read_text(encoding="ascii")))
            except (OSError, ValueError):
                continue
    return sum(counts) if counts else None

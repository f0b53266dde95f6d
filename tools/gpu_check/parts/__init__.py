"""The parts of the check, in order of value: what decides most comes first.

Each is a module with a docstring that says what it decides and a function ``run(part)``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One part.  Limits in seconds: on a GPU, and in a dry run on two cores.

    ``alone`` is for parts that time something: nothing runs beside them.
    """

    key: str
    module: str
    title: str
    limit_s: float
    dry_limit_s: float
    alone: bool = False


PARTS = (
    Entry("a", "sync_parity", "host syncs: simulated against real", 150, 150),
    Entry("b", "gates", "each gate, green and red", 180, 360),
    Entry("c", "techniques", "each technique's proof", 180, 150),
    Entry("d", "clock", "the clock, and the baseline against itself", 75, 90, alone=True),
    Entry("e", "ladder", "a ladder at SDXL's full width", 170, 120, alone=True),
    Entry("f", "kernels", "kernels, attention, bytes", 120, 90),
    Entry("g", "sharing", "two arms and two workers on one GPU", 75, 300, alone=True),
)

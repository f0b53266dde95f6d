"""Pairs that do not count because the machine was disturbed, and why there are so few of them.

**Only what is known before the first call of a pair begins may drop that pair.**  To drop a pair on
such grounds is to bet nothing on it, and a gambler who decides from the past on which rounds of a
fair game to bet cannot win (optional skipping: Doob 1936; Williams, "Probability with Martingales",
10.6).  So the error rates of the gate hold as they are for the pairs that are left, whatever the
grounds and however often they apply.  Both calls of the pair are dropped; the order of the next one
is drawn anew, as always.

What is seen *during* a pair is no such ground, however far outside the arms its cause lies: an
involuntary context switch, stolen time, a collection that another thread started, a throttled GPU
all hit a long call more often than a short one.  Dropping the pairs that were hit is choosing by
the sum of the two durations, and a candidate that is fast in half of its calls and slow in the
others loses the slow ones: with calls of 1 s and 6 s, the median ratio exactly at the threshold and
18 % of the pairs dropped, a gate of 5 % passed falsely in 14 % of 1 000 simulated gates, against
2.4 % where as many were dropped on grounds from before (tests/timing/test_validity.py repeats it).
The default method needs none of it: a bad call moves one sign at most.

Nor are context switches a measure of others: threads of the arm itself that are more than the cores
cause them.

Some machines are always disturbed.  At most :data:`MAX_SHARE` of the pairs are dropped; once one
more would be, none is any more, and the result says so.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

MAX_SHARE = 0.2
"""Of all timed pairs: what is dropped beyond it is no longer the exception."""

ALWAYS_ALLOWED = 2
"""Pairs that may be dropped early on, when a share of few pairs is less than one."""

Condition = Callable[[], "str | None"]
"""Asked before each pair, outside timed regions: why the pair that comes next must not count, or
``None``.  It may look at the machine (stolen time, a GPU's throttle reasons) and at the past."""


class Validity:
    """Decides before each pair whether it will count; keeps the numbers."""

    def __init__(self, disturbances: Sequence[Condition] = (), *, max_share: float = MAX_SHARE):
        self._disturbances = tuple(disturbances)
        self._max_share = max_share
        self._asked = 0
        self._gave_up = False
        self.dropped = 0
        self.kept_disturbed = 0
        """Pairs that would have been dropped if the share had allowed it."""

    def before_pair(self) -> str | None:
        """Why the pair that begins now will not count, or ``None``."""
        self._asked += 1
        # All are asked each time: each looks at what happened since it was asked last.
        reasons = [reason for condition in self._disturbances if (reason := condition())]
        if not reasons:
            return None
        allowed = max(ALWAYS_ALLOWED, self._max_share * self._asked)
        if self._gave_up or self.dropped + 1 > allowed:
            self._gave_up = True
            self.kept_disturbed += 1
            return None
        self.dropped += 1
        return "; ".join(reasons)

    @property
    def remark(self) -> str:
        """A clause for the verdict's reason where nothing was dropped any more; else empty."""
        if not self._gave_up:
            return ""
        return (
            f"the machine was disturbed before {self.dropped + self.kept_disturbed} of "
            f"{self._asked} pairs; no more than {self._max_share:.0%} may be dropped, so "
            f"{self.kept_disturbed} of them count"
        )


class FullCollection:
    """A full garbage collection before a pair: it walks through all objects of the process, and
    the call that comes first would find the processor's caches full of them.

    Collections cannot start by themselves inside a pair (the collector is off), so they come
    between pairs.  Those that code of an arm asks for are that arm's own work and are not counted.
    """

    OLDEST = 2
    """The generation whose collection is a full one."""

    def __init__(self) -> None:
        self._seen = False

    def __call__(self) -> str | None:
        seen, self._seen = self._seen, False
        return "a full garbage collection ran just before" if seen else None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Collections count that start while this is open and the collector is on."""
        gc.callbacks.append(self._notice)
        try:
            yield
        finally:
            gc.callbacks.remove(self._notice)

    def _notice(self, phase: str, info: dict[str, Any]) -> None:
        # Off: a timed region, so somebody asked for this collection.
        if phase == "stop" and info["generation"] == self.OLDEST and gc.isenabled():
            self._seen = True

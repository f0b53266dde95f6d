"""``min_speedup`` and ``max_slowdown``: paired ratios against thresholds.

All of a test's gates of one unit share their rounds: the candidate, the baseline and whatever else
stands in ``over=`` are called in turn, and each gate takes its pair from each round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...common.errors import DiffspeedError
from ...records.verdict import GateResult
from ...techniques.stacks import BASE
from ..gate import ArmsOfBoth, BaseClaim, Checked, Gate, GateContext, why_unchecked
from ..marker import GateMarker
from ..marker_values import MOST_RATIO, as_number, as_ratio
from ..ratios.against_base import speed_against_base
from ..ratios.gate_group import GateGroup, decided
from ..ratios.marker import SpeedMarker
from ..ratios.pending import PendingGate, ask

SLOWDOWN_PERCENT = 5.0
"""What a test allows that says nothing of the base itself: smaller changes take more pairs than
most budgets hold (``docs/statistics.md``), and are told as INCONCLUSIVE."""


@dataclass(frozen=True)
class MinSpeedup(SpeedMarker):
    """The candidate is at least ``ratio`` times as fast as ``over``."""

    signature: ClassVar[str] = (
        'min_speedup(ratio, over="fp32", alpha=0.05, unit="call", method="sign", stack=None, '
        "device=None): at least `ratio` times as fast as `over`"
    )
    policy: ClassVar[str] = "fail"
    FAILURE: ClassVar[str] = "SPEED"
    ratio: float

    @property
    def min_ratio(self) -> float:
        return self.ratio

    def asking_for(self, ratio: float) -> str | None:
        floored = math.floor(100 * ratio) / 100
        return f"{self.marker}({floored:g})" if 1 <= floored < self.ratio else None

    @classmethod
    def from_arguments(
        cls,
        ratio: float,
        over: str = "fp32",
        alpha: float = 0.05,
        unit: str = "call",
        method: str = "sign",
        stack: str | None = None,
        device: str | None = None,
    ) -> MinSpeedup:
        example = "1.5 for one and a half times as fast"
        checked = as_ratio("ratio", ratio, example=example)
        return cls(*cls.shared(over, alpha, unit, method, stack, device), checked)


@dataclass(frozen=True)
class MaxSlowdown(SpeedMarker):
    """The candidate is at most ``percent`` slower than ``over``."""

    signature: ClassVar[str] = (
        'max_slowdown(percent, over="fp32", alpha=0.05, unit="call", method="sign", '
        "stack=None, device=None): at most `percent` slower than `over`"
    )
    policy: ClassVar[str] = "warn"
    FAILURE: ClassVar[str] = "SLOWDOWN"
    percent: float

    @property
    def min_ratio(self) -> float:
        return 1.0 / (1.0 + self.percent / 100.0)

    def asking_for(self, ratio: float) -> str | None:
        raised = math.ceil(100 * (1 / ratio - 1))
        return f"{self.marker}({raised})" if self.percent < raised < 100 * MOST_RATIO else None

    @classmethod
    def from_arguments(
        cls,
        percent: float,
        over: str = "fp32",
        alpha: float = 0.05,
        unit: str = "call",
        method: str = "sign",
        stack: str | None = None,
        device: str | None = None,
    ) -> MaxSlowdown:
        most = 100.0 * MOST_RATIO
        example = "5 for at most 5 % slower"
        checked = as_number("percent", percent, least=0.0, below=most, example=example)
        return cls(*cls.shared(over, alpha, unit, method, stack, device), checked)


class SpeedupGates(Gate):
    """Times rounds of pipeline calls, alone on the device, until each ratio is decided.

    What counts of a call is its unit: all of it, its steady steps, or one component.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MinSpeedup, MaxSlowdown)
    times: ClassVar[bool] = True

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        ((_, checked),) = self.check_all([marker], context)
        if isinstance(checked, DiffspeedError):
            raise checked
        return checked

    def check_all(self, markers: Sequence[GateMarker], context: GateContext) -> Iterator[Checked]:
        open_: list[PendingGate] = []
        for marker in markers:
            assert isinstance(marker, SpeedMarker)
            try:
                asked = ask(marker, context)
            except Exception as error:
                yield marker, why_unchecked(error)
                continue
            if isinstance(asked, GateResult):
                yield marker, context.publish(asked)
            else:
                open_.append(asked)
        for unit in dict.fromkeys(asked.marker.unit for asked in open_):
            block = GateGroup(unit, [a for a in open_ if a.marker.unit == unit], context)
            yield from decided(block)

    def base_claims(self, markers: Sequence[GateMarker]) -> Sequence[BaseClaim]:
        """Those with ``over="base"``; one of our own for each unit that a test times without."""
        speed = [marker for marker in markers if isinstance(marker, SpeedMarker)]
        own = [marker for marker in speed if marker.is_against_base]
        units = dict.fromkeys(marker.unit for marker in speed)
        missing = [unit for unit in units if unit not in {marker.unit for marker in own}]
        of_ours = (
            MaxSlowdown.from_arguments(SLOWDOWN_PERCENT, over=BASE.name, unit=unit)
            for unit in missing
        )
        return [BaseClaim(marker, marker.claim) for marker in (*own, *of_ours)]

    def check_all_against_base(
        self, claims: Sequence[BaseClaim], context: GateContext, of_both: ArmsOfBoth
    ) -> Iterator[tuple[BaseClaim, GateResult | DiffspeedError]]:
        markers = [claim.marker for claim in claims if isinstance(claim.marker, SpeedMarker)]
        for marker, checked in speed_against_base(markers, context):
            yield BaseClaim(marker, marker.claim), checked


GATES = (SpeedupGates(),)

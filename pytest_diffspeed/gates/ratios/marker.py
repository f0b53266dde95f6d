"""What the markers of the gates on a paired ratio share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from ...records.verdict import Axis
from ...statistics.methods import Method
from ...techniques.stacks import BASE, Stack
from ..marker import GateMarker
from ..marker_values import (
    as_component,
    as_device,
    as_number,
    as_one_of,
    as_optional_stack,
    as_stack,
)

WHOLE_CALL = "call"
UNITS = (WHOLE_CALL, "step")
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True)
class SpeedMarker(GateMarker):
    """What the two gates on a paired ratio share: against what, of what, and how sure."""

    axis: ClassVar[Axis] = Axis.RATIO
    policy: ClassVar[str]
    """What INCONCLUSIVE does to the test where ``--diffspeed-inconclusive`` says nothing."""
    FAILURE: ClassVar[str]
    """The kind of its failure, in capitals."""
    over: Stack
    alpha: float
    unit: str
    method: Method
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"{self.marker} over {self.over} per {self.unit}"

    @property
    def is_against_base(self) -> bool:
        return self.over == BASE

    @property
    def min_ratio(self) -> float:
        """The threshold on baseline seconds ÷ candidate seconds."""
        raise NotImplementedError

    def asking_for(self, ratio: float) -> str | None:
        """How the marker is written so that ``ratio`` passes, rounded to its weaker side; ``None``
        where no number says it.
        """
        raise NotImplementedError

    def is_stricter(self, other: GateMarker) -> bool:
        return isinstance(other, SpeedMarker) and self.min_ratio > other.min_ratio

    @staticmethod
    def shared(
        over: str, alpha: float, unit: str, method: str, stack: str | None, device: str | None
    ) -> tuple[Stack, float, str, Method, Stack | None, str | None]:
        return (
            as_stack("over", over, previous=True, base=True),
            as_number("alpha", alpha, above=0.0, below=0.5, example="0.05"),
            as_component("unit", unit, UNITS),
            as_one_of("method", method, METHODS),
            as_optional_stack(stack),
            as_device(device),
        )

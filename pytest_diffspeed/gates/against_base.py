"""What ``--diffspeed-base`` adds to each gate: the same claim against the base, for the same stack.

Speed is a paired ratio, what is counted a difference with its places, and images are compared with
the base's.  A gate that is worse than the base fails the test that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import AbsentArmError, DiffspeedError, UncountableError
from ..markers import GateMarker, MaxSlowdown, SpeedMarker
from ..techniques.stacks import BASE
from ..verdict import GateResult
from .base import GateContext

SLOWDOWN_PERCENT = 5.0
"""What a test allows that says nothing of the base itself: smaller changes take more pairs than
most budgets hold (``docs/statistics.md``), and are told as INCONCLUSIVE."""
NO_BASE = "it compares with a base, and this session has none; give one with --diffspeed-base REV"


@dataclass(frozen=True)
class BaseCheck:
    """A claim against the base, with its result or why it could not be checked."""

    gate: str
    claim: str
    checked: GateResult | DiffspeedError


def is_against_base(marker: GateMarker) -> bool:
    """Whether a marker says ``over="base"``: it holds in sessions with a base only."""
    return isinstance(marker, SpeedMarker) and marker.over == BASE


def check_against_base(markers: Sequence[GateMarker], context: GateContext) -> Iterator[BaseCheck]:
    """Check what ``markers`` of one test claim, against the session's base; counts come first."""
    for check in _checks(markers, context):
        absent = isinstance(check.checked, AbsentArmError)
        if absent:  # a new pipeline, not a regression
            said = f"the base does not have this pipeline: {check.checked}"
            check = BaseCheck(check.gate, check.claim, UncountableError(said))
        yield check


def _checks(markers: Sequence[GateMarker], context: GateContext) -> Iterator[BaseCheck]:
    from .base_speed import speed_against_base

    for marker, checked in speed_against_base(speed_markers(markers), context):
        yield BaseCheck(marker.marker, marker.claim, checked)


def speed_markers(markers: Sequence[GateMarker]) -> list[SpeedMarker]:
    """Those with ``over="base"``; one of our own for each unit that a test times without one."""
    speed = [marker for marker in markers if isinstance(marker, SpeedMarker)]
    own = [marker for marker in speed if marker.over == BASE]
    units = dict.fromkeys(marker.unit for marker in speed)
    missing = [unit for unit in units if unit not in {marker.unit for marker in own}]
    return own + [
        MaxSlowdown(BASE, 0.05, unit, "sign", None, None, SLOWDOWN_PERCENT) for unit in missing
    ]

"""What ``--diffspeed-base`` adds to each gate: the same claim against the base, for the same stack.

Speed is a paired ratio, what is counted a difference with its places, and images are compared with
the base's.  A gate that is worse than the base fails the test that it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...arms.spec import ArmSpec
from ...common.errors import AbsentArmError, DiffspeedError, SelfComparisonError, UncountableError
from ...records.verdict import GateResult
from ...techniques.stacks import BASE
from ..catalog.graph_breaks import NoGraphBreaks
from ..catalog.memory import MaxMemory
from ..catalog.recompiles import NoRecompiles
from ..catalog.similarity import ImageSimilarity
from ..catalog.speedup import MaxSlowdown
from ..catalog.syncs import NoGpuSyncs
from ..gate import GateContext
from ..marker import GateMarker
from ..ratios.marker import SpeedMarker

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...arms.worker.arm import WorkerArm

SLOWDOWN_PERCENT = 5.0
"""What a test allows that says nothing of the base itself: smaller changes take more pairs than
most budgets hold (``docs/statistics.md``), and are told as INCONCLUSIVE."""
NO_BASE = "it compares with a base, and this session has none; give one with --diffspeed-base REV"

THIS_TREE = (
    "the base is the commit that is checked out, and nothing is edited: it would compare this tree "
    "with itself; name another one, such as HEAD~1"
)


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
    base, about = context.session.base, context.session.about
    if base is not None and base.is_tree(about["commit"], about["dirty"]):
        for gate, claim in _claims(markers):
            yield BaseCheck(gate, claim, SelfComparisonError(THIS_TREE))
        return
    for check in _checks(markers, context):
        absent = isinstance(check.checked, AbsentArmError)
        if absent:  # a new pipeline, not a regression
            sentence = f"the base does not have this pipeline: {check.checked}"
            check = BaseCheck(check.gate, check.claim, UncountableError(sentence))
        yield check


def _claims(markers: Sequence[GateMarker]) -> Iterator[tuple[str, str]]:
    """Gate and claim of everything that would be checked."""
    yield from ((marker.marker, claim) for claim, marker in _counted(markers).items())
    yield from ((marker.marker, marker.claim) for marker in speed_markers(markers))


def _counted(markers: Sequence[GateMarker]) -> dict[str, GateMarker]:
    """Those that time nothing, by claim: max_memory over two stacks is one question here."""
    from .counts import claim_of

    return {claim_of(m): m for m in markers if isinstance(m, _COUNTED)}


def _checks(markers: Sequence[GateMarker], context: GateContext) -> Iterator[BaseCheck]:
    from .counts import count_against_base
    from .images import compare_with_base
    from .speed import speed_against_base

    with _Arms(context) as of_base:
        for claim, marker in _counted(markers).items():
            checked: GateResult | DiffspeedError
            try:
                if isinstance(marker, ImageSimilarity):
                    checked = compare_with_base(marker, context, of_base(context.candidate))
                else:
                    checked = count_against_base(marker, context, of_base)
            except DiffspeedError as error:
                checked = error
            else:
                context.session.journal.write("gate", **checked.as_dict())
            yield BaseCheck(marker.marker, claim, checked)
    for speed, checked in speed_against_base(speed_markers(markers), context):
        yield BaseCheck(speed.marker, speed.claim, checked)


_COUNTED = (NoGraphBreaks, NoRecompiles, NoGpuSyncs, ImageSimilarity, MaxMemory)


class _Arms:
    """The base's arms that gates of one test look at: one at a time lives, and none afterwards."""

    def __init__(self, context: GateContext) -> None:
        self._context = context
        self._stack = ExitStack()
        self._arm: tuple[ArmSpec, WorkerArm] | None = None
        self._failed: dict[ArmSpec, DiffspeedError] = {}

    def __enter__(self) -> Callable[[PreparedArm], WorkerArm]:
        return self._of

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _of(self, arm: PreparedArm) -> WorkerArm:
        if arm.spec in self._failed:  # not once for each gate
            raise self._failed[arm.spec]
        if self._arm is None or self._arm[0] != arm.spec:
            self._stack.close()
            self._arm = None
            try:
                built = self._stack.enter_context(self._context.session.workers.base_arm(arm.spec))
            except DiffspeedError as error:
                self._failed[arm.spec] = error
                raise
            self._arm = arm.spec, built
        return self._arm[1]


def speed_markers(markers: Sequence[GateMarker]) -> list[SpeedMarker]:
    """Those with ``over="base"``; one of our own for each unit that a test times without one."""
    speed = [marker for marker in markers if isinstance(marker, SpeedMarker)]
    own = [marker for marker in speed if marker.over == BASE]
    units = dict.fromkeys(marker.unit for marker in speed)
    missing = [unit for unit in units if unit not in {marker.unit for marker in own}]
    return own + [
        MaxSlowdown(BASE, 0.05, unit, "sign", None, None, SLOWDOWN_PERCENT) for unit in missing
    ]

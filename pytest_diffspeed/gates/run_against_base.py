"""What ``--diffspeed-base`` adds to each gate: the same claim against the base, for the same stack.

Speed is a paired ratio, what is counted a difference with its places, and images are compared with
the base's; each gate says it itself.  One that is worse than the base fails the test that it
belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..common.errors import AbsentArmError, DiffspeedError, SelfComparisonError, UncountableError
from ..records.verdict import GateResult
from .gate import ArmsOfBoth, BaseClaim, BothArms, Gate, GateContext
from .marker import GateMarker
from .registry import gates

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.spec import ArmSpec

NO_BASE = "it compares with a base, and this session has none; give one with --diffspeed-base REV"

THIS_TREE = (
    "the base is the commit that is checked out, and nothing is edited: it would compare this tree "
    "with itself; name another one, such as HEAD~1"
)


def check_against_base(
    markers: Sequence[GateMarker], context: GateContext
) -> Iterator[tuple[BaseClaim, GateResult | DiffspeedError]]:
    """Check what ``markers`` of one test claim, against the session's base; counts come first."""
    claims = _claims(markers)
    base, about = context.session.base, context.session.about
    if base is not None and base.is_tree(about["commit"], about["dirty"]):
        for of_gate in claims.values():
            yield from ((claim, SelfComparisonError(THIS_TREE)) for claim in of_gate)
        return
    for claim, checked in _checks(claims, context):
        if isinstance(checked, AbsentArmError):  # a new pipeline, not a regression
            sentence = f"the base does not have this pipeline: {checked}"
            yield claim, UncountableError(sentence)
        else:
            yield claim, checked


def _claims(markers: Sequence[GateMarker]) -> dict[Gate, Sequence[BaseClaim]]:
    """What each gate would check; those that time come last."""
    kinds = dict.fromkeys(gates()[type(marker)] for marker in markers)
    return {
        gate: gate.base_claims([marker for marker in markers if gates()[type(marker)] is gate])
        for gate in sorted(kinds, key=lambda gate: gate.times)
    }


def _checks(
    claims: dict[Gate, Sequence[BaseClaim]], context: GateContext
) -> Iterator[tuple[BaseClaim, GateResult | DiffspeedError]]:
    for times in (False, True):
        with _Arms(context) as of_both:  # let go before anything is timed
            for gate, of_gate in claims.items():
                if gate.times is times:
                    yield from gate.check_all_against_base(of_gate, context, of_both)


class _Arms:
    """The arms of both trees that gates of one test look at: those of one stack at a time."""

    def __init__(self, context: GateContext) -> None:
        self._context = context
        self._stack = ExitStack()
        self._arms: tuple[ArmSpec, BothArms] | None = None
        self._failed: dict[ArmSpec, DiffspeedError] = {}

    def __enter__(self) -> ArmsOfBoth:
        return self._of

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _of(self, arm: PreparedArm) -> BothArms:
        if arm.spec in self._failed:  # not once for each gate
            raise self._failed[arm.spec]
        if self._arms is None or self._arms[0] != arm.spec:
            self._stack.close()
            self._arms = None
            workers = self._context.session.workers
            try:
                ((base, head),) = self._stack.enter_context(
                    workers.base_and_head(arm.spec, "call", 1)
                )
            except DiffspeedError as error:
                self._failed[arm.spec] = error
                raise
            self._arms = arm.spec, BothArms(base, head)
        return self._arms[1]

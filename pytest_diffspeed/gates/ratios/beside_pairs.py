"""What whole calls after the pairs tell of the arms: seconds of their stages, and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..countable import require_countable
from .pending import PendingGate

if TYPE_CHECKING:
    from ...accelerators.clock import Clock
    from ...arms.prepared_arm import PreparedArm
    from ...arms.session import Session

Identity = Callable[[PendingGate], dict[str, Any]]
"""What names a gate in the journal."""


def record_stages(
    measured: Sequence[PendingGate], candidate: PreparedArm, session: Session, identity: Identity
) -> None:
    """The stages of one call of each arm.  Only now: the verdicts are written, whatever these calls
    do.
    """
    stack = candidate.spec.stack.name
    stages: dict[str, Any] = {}
    for asked in measured:
        for prepared in (asked.baseline, candidate):
            assert prepared is not None
            name = prepared.spec.stack.name
            if name not in stages:
                stages[name] = _stages(prepared, session.clock)
        ours = None
        if stages[stack] is not None:
            ours = {"baseline": stages[asked.over.name], "candidate": stages[stack]}
        assert asked.result is not None
        asked.result.figures["stages"] = ours
        session.journal.write("stages", **identity(asked), stages=ours)


def record_memory(
    asked_gates: Sequence[PendingGate], candidate: PreparedArm, session: Session, identity: Identity
) -> None:
    """The peak of one more call of each arm, where an allocator counts it."""
    from ...accelerators.registry import allocator_of

    allocator = allocator_of(session.device)
    if allocator is None:
        return
    stack = candidate.spec.stack.name
    peaks: dict[str, Any] = {}
    for asked in asked_gates:
        if asked.result is None:
            continue
        for prepared in (asked.baseline, candidate):
            assert prepared is not None
            name = prepared.spec.stack.name
            if name not in peaks:
                try:
                    require_countable(prepared)
                    peaks[name] = vars(prepared.peak_memory(allocator))
                except Exception as error:  # the verdict is there, and stays
                    peaks[name] = {"error": f"{type(error).__name__}: {error}"}
        memory = {"baseline": peaks[asked.over.name], "candidate": peaks[stack]}
        asked.result.figures["memory"] = memory
        session.journal.write("memory", **identity(asked), memory=memory)


def _stages(prepared: PreparedArm, clock: Clock) -> dict[str, Any] | None:
    """Stage times of one more call; watching it cannot touch the pairs any more.

    ``None`` where the clock times whole calls only.  The pairs have been paid for: a call that
    raises now says so in the place of its stages and costs the verdict nothing.
    """
    from ...accelerators.clock import StampClock

    if not isinstance(clock, StampClock):
        return None
    try:
        return dict(prepared.stage_times(clock).as_dict())
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}

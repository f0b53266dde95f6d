"""How far a baseline is from itself: timed once for a commit, known afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..evidence.key import COMPONENT_CALLS, EvidenceKey
from ..evidence.noise import KnownFloor, NoiseMemory
from ..evidence.tree import commit
from ..techniques.stacks import FP32
from ..timing.arm import TimedArm
from ..timing.noise import measure_noise
from .session import Session

if TYPE_CHECKING:
    from ..techniques.stacks import Stack
    from .prepared_arm import PreparedArm


def noise_floor_of(
    session: Session,
    source: str,
    unit: str,
    *,
    stack: Stack = FP32,
    beside: Sequence[TimedArm] = (),
    seed: int = 0,
    alone: Callable[[PreparedArm], TimedArm] | None = None,
) -> KnownFloor:
    """The baseline of ``source`` timed against itself, now or earlier for this commit.

    Args:
        session: the session.
        source: of the pipeline.
        unit: what of a call is timed.
        stack: the baseline has the adapters that it carries.
        beside: arms of this process that are to be compared, the baseline's among them or not;
            where it is timed now, they are called as often as it is.
        seed: of the order of these calls.
        alone: makes the arm that calls the component alone; whole calls are timed if left out.

    Raises:
        MeasurementError: an arm could not be timed.
    """
    baseline = session.arms.baseline(source, stack)
    key = EvidenceKey(
        {
            "commit": commit(session.rootdir) or vars(session.tree),
            "source": source,
            "weights": session.arms.weights(source, stack),
            "inputs": baseline.call.inputs(),
            "unit": unit,
            "environment": session.environment(),
            **({} if alone is None else {"pair": COMPONENT_CALLS}),
            **({} if stack.baseline == FP32 else {"stack": stack.baseline.name}),
        }
    )

    def measure() -> list[tuple[float, float]]:
        with session.progress.phase(f"timing the baseline of {source} against itself"):
            arm = baseline.arm_of(unit) if alone is None else alone(baseline)
            others = [one for one in beside if one is not arm]
            return measure_noise(arm, session.clock, beside=others, seed=seed)

    known = NoiseMemory(session.rootdir).known_or(key, measure)
    session.journal.write("noise-floor", key=key.digest, at=known.at, pairs=known.pairs)
    return known

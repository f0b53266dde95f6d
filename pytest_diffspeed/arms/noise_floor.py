"""How far a baseline is from itself: timed once for a commit, known afterwards."""

from __future__ import annotations

from ..evidence.key import EvidenceKey
from ..evidence.noise import KnownFloor, NoiseMemory
from ..evidence.tree import commit
from ..timing.noise import measure_noise
from .session import Session


def noise_floor_of(session: Session, source: str, unit: str) -> KnownFloor:
    """The baseline of ``source`` timed against itself, now or earlier for this commit.

    Raises:
        MeasurementError: it could not be timed.
    """
    baseline = session.arms.baseline(source)
    key = EvidenceKey(
        {
            "commit": commit(session.rootdir) or vars(session.tree),
            "source": source,
            "weights": session.arms.weights(source),
            "inputs": baseline.call.inputs(),
            "unit": unit,
            "environment": session.environment(),
        }
    )

    def measure() -> list[tuple[float, float]]:
        with session.progress.phase(f"timing the baseline of {source} against itself"):
            return measure_noise(baseline.arm_of(unit), session.clock)

    known = NoiseMemory(session.rootdir).known_or(key, measure)
    session.journal.write("noise-floor", key=key.digest, at=known.at, pairs=known.pairs)
    return known

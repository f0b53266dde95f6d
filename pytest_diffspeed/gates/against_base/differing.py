"""What the arms of two trees do not share though nobody changed their stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...arms.worker.arm import WorkerArm


def differing(base: WorkerArm, head: WorkerArm) -> tuple[str, ...]:
    """A clause for weights that differ and for each input of the call that does."""
    notes = []
    parts = sorted({*base.weights, *head.weights})
    weights = [part for part in parts if base.weights.get(part) != head.weights.get(part)]
    if weights:
        notes.append(f"the base has other weights in {', '.join(weights)}")
    names = sorted({*base.inputs, *head.inputs})
    for name in names:
        before, now = base.inputs.get(name), head.inputs.get(name)
        if before != now:
            notes.append(f"its call has {name} {before!r} in the base and {now!r} here")
    return tuple(notes)

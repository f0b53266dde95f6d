"""``max_memory``: the peak of one call against that of another arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...arms.spec import ArmSpec
from ...common.errors import SelfComparisonError
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...techniques.stacks import PREVIOUS, Stack
from ..countable import require_countable, require_eager
from ..gate import Gate, GateContext
from ..marker import GateMarker
from ..marker_values import as_device, as_number, as_optional_stack, as_stack

if TYPE_CHECKING:
    from ...timing.simulated_memory import SimulatedPeak

_GIB, _MIB = 2**30, 2**20


@dataclass(frozen=True)
class MaxMemory(GateMarker):
    """Peak device memory is at most ``ratio`` times that of ``over``."""

    signature: ClassVar[str] = (
        'max_memory(ratio, over="fp32", stack=None, device=None): peak device memory'
    )
    ratio: float
    over: Stack
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"max_memory over {self.over}"

    @classmethod
    def from_arguments(
        cls,
        ratio: float,
        over: str = "fp32",
        stack: str | None = None,
        device: str | None = None,
    ) -> MaxMemory:
        return cls(
            as_number("ratio", ratio, above=0.0, example="0.6"),
            as_stack("over", over, previous=True),
            as_optional_stack(stack),
            as_device(device),
        )


class MemoryGate(Gate):
    """Counts one call of each arm, one after the other.

    On CUDA what the device's allocator gave out; in a session on the CPU the bytes of tensors on a
    simulated GPU.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MaxMemory,)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ...accelerators.registry import allocator_of

        assert isinstance(marker, MaxMemory)
        session, candidate = context.session, context.candidate
        over = context.previous if marker.over == PREVIOUS else marker.over
        if over == candidate.spec.stack:
            raise SelfComparisonError(f"it would compare {over} with itself")
        allocator = allocator_of(session.device)
        if allocator is None:
            require_eager(candidate.spec.stack)
            require_eager(over)
            baseline = session.arms.other(ArmSpec(candidate.spec.source, over))
            simulated = [arm.simulated_peak() for arm in (baseline, candidate)]
            peaks, place = [peak.allocated_bytes for peak in simulated], " on a simulated GPU"
            more, note = _described(simulated)
        else:
            require_countable(candidate)
            baseline = session.arms.other(ArmSpec(candidate.spec.source, over))
            require_countable(baseline)
            with session.exclusive_device():
                counted = [arm.peak_memory(allocator) for arm in (baseline, candidate)]
            peaks, place, note = [peak.allocated_bytes for peak in counted], "", ""
            more = {
                "counted_on": session.device.name,
                "baseline_reserved_bytes": counted[0].reserved_bytes,
                "candidate_reserved_bytes": counted[1].reserved_bytes,
            }
        share = peaks[1] / peaks[0]
        verdict = VerdictKind.PASS if peaks[1] <= marker.ratio * peaks[0] else VerdictKind.FAIL
        result = GateResult(
            gate=marker.marker,
            claim=marker.claim,
            test=context.test,
            stack=candidate.spec.stack.name,
            verdict=verdict,
            reason=(
                f"at most {_size(peaks[1])} of tensors at once, {share:.3g} of the "
                f"{_size(peaks[0])} of {over}; {marker.ratio:.3g} are allowed{note}"
            ),
            evidence=Evidence.COUNTED,
            blocking=verdict is VerdictKind.FAIL,
            figures={
                "found": f"{_size(peaks[1])}, {share:.3g} of {over}'s{place}",
                "over": over.name,
                "max_ratio": marker.ratio,
                "memory_ratio": share,
                "baseline_peak_bytes": peaks[0],
                "candidate_peak_bytes": peaks[1],
                **more,
                "environment": session.environment(),
            },
        )
        session.journal.write("gate", **result.as_dict())
        return result


def _described(simulated: Sequence[SimulatedPeak]) -> tuple[dict[str, Any], str]:
    """Figures for the record, and what the reason says of a simulated GPU."""
    from ...timing.simulated_memory import NOT_COUNTED

    baseline, candidate = simulated
    figures = {
        "counted_on": candidate.evidence,
        "not_counted": list(NOT_COUNTED),
        "baseline_weight_bytes": baseline.weight_bytes,
        "candidate_weight_bytes": candidate.weight_bytes,
        "baseline_peak_at": baseline.where,
        "candidate_peak_at": candidate.where,
    }
    note = f"; counted on a simulated GPU, without {' and without '.join(NOT_COUNTED)}"
    if candidate.where is not None:
        note += f"\n  the peak is at {candidate.where}"
    return figures, note


def _size(count: int) -> str:
    """``0.512 GiB``, or MiB where that is the better unit."""
    return f"{count / _GIB:.3g} GiB" if count >= _GIB / 10 else f"{count / _MIB:.3g} MiB"


GATES = (MemoryGate(),)

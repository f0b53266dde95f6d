"""``max_memory``: the peak of one call against that of another arm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ...arms.spec import ArmSpec
from ...common.errors import SelfComparisonError, UncountableError
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...techniques.stacks import PREVIOUS, Stack
from ..gate import NOT_SIMULATED, Gate, GateContext
from ..markers import GateMarker, MaxMemory

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...timing.simulated_memory import SimulatedPeak

_GIB, _MIB = 2**30, 2**20


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
            _require_eager(candidate.spec.stack)
            _require_eager(over)
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


def _require_eager(stack: Stack) -> None:
    """Refuse what a simulated GPU cannot run: its memory would be that of another program.

    Raises:
        UncountableError: the stack compiles or quantizes.
    """
    names = [t.name for t in stack.techniques() if t.family in NOT_SIMULATED]
    if names:
        raise UncountableError(
            f"memory of {stack} cannot be counted without a GPU: {' and '.join(names)} cannot run "
            "on a simulated one, which runs eager operations on plain tensors; gate an eager stack "
            "such as 'bf16', or run on a machine with a GPU"
        )


def require_countable(arm: PreparedArm) -> None:
    """Refuse a stack that replays CUDA graphs.

    A replay takes nothing from the allocator: what its kernels write to lies in a pool that was
    filled when the graph was recorded, and that looks like something of another pipeline's.

    Raises:
        UncountableError: graphs were launched when the stack was proven.
    """
    launches = arm.applied.cuda_graph_launches
    if launches:
        raise UncountableError(
            f"{arm.spec.stack} replays CUDA graphs ({launches} launched in a call), whose memory "
            "the allocator gave out when they were recorded, so the peak of a call cannot be "
            "counted; gate a stack without CUDA graphs, such as 'compile'"
        )


GATES = (MemoryGate(),)

"""``max_memory``: the peak of one call against that of another arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..errors import MissingHardwareError, SelfComparisonError, UncountableError
from ..markers import GateMarker, MaxMemory
from ..specs import ArmSpec
from ..techniques.stacks import PREVIOUS
from ..verdict import Evidence, GateResult, VerdictKind
from .base import Gate, GateContext

if TYPE_CHECKING:
    from ..prepared import PreparedArm

_GIB = 2**30


class MemoryGate(Gate):
    """Counts what the device's allocator gave out in one call of each arm, one after the other."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MaxMemory,)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ..timing.memory import allocator_of

        assert isinstance(marker, MaxMemory)
        session, candidate = context.session, context.candidate
        over = context.previous if marker.over == PREVIOUS else marker.over
        if over == candidate.spec.stack:
            raise SelfComparisonError(f"it would compare {over} with itself")
        allocator = allocator_of(session.device)
        if allocator is None:
            raise MissingHardwareError(
                f"nobody counts the memory of {session.device}: it takes a GPU, whose allocator "
                "does (the process's resident set size says little about a pipeline)"
            )
        _require_countable(candidate)
        baseline = session.other(ArmSpec(candidate.spec.source, over))
        _require_countable(baseline)
        with session.exclusive_device():
            peaks = [arm.peak_memory(allocator) for arm in (baseline, candidate)]
        allowed = marker.ratio * peaks[0].allocated_bytes
        share = peaks[1].allocated_bytes / peaks[0].allocated_bytes
        verdict = VerdictKind.PASS if peaks[1].allocated_bytes <= allowed else VerdictKind.FAIL
        result = GateResult(
            gate=marker.marker,
            claim=marker.claim,
            test=context.test,
            stack=candidate.spec.stack.name,
            verdict=verdict,
            reason=(
                f"at most {peaks[1].allocated_bytes / _GIB:.3g} GiB of tensors at once, "
                f"{share:.3g} of the {peaks[0].allocated_bytes / _GIB:.3g} GiB of {over}; "
                f"{marker.ratio:.3g} are allowed"
            ),
            evidence=Evidence.COUNTED,
            blocking=verdict is VerdictKind.FAIL,
            figures={
                "found": f"{peaks[1].allocated_bytes / _GIB:.3g} GiB, {share:.3g} of {over}'s",
                "over": over.name,
                "max_ratio": marker.ratio,
                "memory_ratio": share,
                "baseline_peak_bytes": peaks[0].allocated_bytes,
                "candidate_peak_bytes": peaks[1].allocated_bytes,
                "baseline_reserved_bytes": peaks[0].reserved_bytes,
                "candidate_reserved_bytes": peaks[1].reserved_bytes,
                "environment": session.environment(),
            },
        )
        session.journal.write("gate", **result.as_dict())
        return result


def _require_countable(arm: PreparedArm) -> None:
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

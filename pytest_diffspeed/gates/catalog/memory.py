"""``max_memory``: the peak of one call against that of another arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.registry import accelerator_of
from ...arms.counts import PEAK_BYTES, Counts
from ...arms.probes import Probe
from ...arms.spec import ArmSpec
from ...common.errors import SelfComparisonError
from ...common.text import size
from ...records.verdict import RATIO, Axis, Cause, EvidenceKind, GateResult, Metric, VerdictKind
from ...techniques.stacks import PREVIOUS, Stack, meant_by
from ..against_base.counts import BaseProbe, CountingGate
from ..countable import require_countable, require_eager, simulable
from ..gate import GateContext
from ..marker import GateMarker
from ..marker_values import BadValueError, as_device, as_optional_stack, as_ratio, as_stack

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...timing.simulated_memory import SimulatedPeak

MOST_SHARE = 20
"""Nothing that makes a pipeline faster takes so many times its memory; who writes 60 means 60 %."""
MEMORY_PERCENT = 5.0
"""What the peak of a call may grow by against a base: an allocator rounds."""


@dataclass(frozen=True)
class MaxMemory(GateMarker):
    """Peak device memory is at most ``ratio`` times that of ``over``."""

    signature: ClassVar[str] = (
        'max_memory(ratio, over="fp32", stack=None, device=None): peak device memory'
    )
    axis: ClassVar[Axis] = Axis.MEMORY
    ratio: float
    over: Stack
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"max_memory over {self.over}"

    def is_stricter(self, other: GateMarker) -> bool:
        return isinstance(other, MaxMemory) and self.ratio < other.ratio

    @classmethod
    def from_arguments(
        cls,
        ratio: float,
        over: str = "fp32",
        stack: str | None = None,
        device: str | None = None,
    ) -> MaxMemory:
        return cls(
            _as_share(ratio),
            as_stack("over", over, previous=True),
            as_optional_stack(stack),
            as_device(device),
        )


def _as_share(given: float) -> float:
    share = as_ratio("ratio", given, example="0.6")
    if share > MOST_SHARE:
        raise BadValueError(
            "ratio",
            f"is a share of the other arm's peak, 0.6 for 60 %, and at most {MOST_SHARE}, not "
            f"{given!r}",
        )
    return share


class MemoryGate(CountingGate):
    """Counts one call of each arm, one after the other.

    On CUDA what the device's allocator gave out; in a session on the CPU the bytes of tensors on a
    simulated GPU.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (MaxMemory,)
    counts: ClassVar[bool] = False  # it runs whole calls

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ...accelerators.registry import allocator_of

        assert isinstance(marker, MaxMemory)
        session, candidate = context.session, context.candidate
        stack = candidate.spec.stack
        over = context.previous if marker.over == PREVIOUS else meant_by(marker.over, stack)
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
        result = context.result(
            marker,
            verdict,
            reason=(
                f"at most {size(peaks[1])} of tensors at once, {share:.3g} of the "
                f"{size(peaks[0])} of {over}; {marker.ratio:.3g} are allowed{note}"
            ),
            evidence=EvidenceKind.COUNTED,
            figures={
                "found": f"{size(peaks[1])}, {share:.3g} of {over}'s{place}",
                "over": over.name,
                "max_ratio": marker.ratio,
                "memory_ratio": share,
                "baseline_peak_bytes": peaks[0],
                "candidate_peak_bytes": peaks[1],
                **more,
                "environment": session.environment(),
            },
            # Counted, but by an allocator that rounds and caches a little differently each time.
            metrics=[
                Metric(
                    "memory_ratio",
                    share,
                    "× peak memory",
                    kind=RATIO,
                    is_counted=False,
                    series="memory ratio",
                )
            ],
            cause=_cause(peaks, over, marker.ratio, more.get("candidate_peak_at")),
        )
        return context.publish(result)

    def base_claim(self, marker: GateMarker) -> str:
        """Over two stacks it is one question here."""
        return f"{marker.marker} against base"

    def base_probe(self, marker: GateMarker, context: GateContext) -> BaseProbe:
        candidate = context.candidate
        if accelerator_of(context.session.device).counts_syncs:
            require_countable(candidate)
        else:
            require_eager(candidate.spec.stack)
            candidate = simulable(context)
        return BaseProbe(Probe("memory", count_memory), candidate, percent=MEMORY_PERCENT)


def _cause(peaks: Sequence[int], over: Stack, allowed: float, peak_at: str | None) -> Cause:
    share = peaks[1] / peaks[0]
    found = f"{share:.0%} of {over}'s {size(peaks[0])}, {allowed:.0%} allowed"
    # Up, so that what was counted just now would pass.
    step = f"free what is alive at the peak, or allow max_memory({math.ceil(share * 100) / 100:g})"
    if peak_at is None:
        return Cause("MEMORY", found, step)
    place, _, source = peak_at.partition("  ")
    return Cause("MEMORY", found, step, place, source.strip() or None)


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


def peak_bytes(arm: PreparedArm) -> int:
    """Of one call: as the device's allocator counts, or on a simulated GPU if there is none."""
    from ...adapters.offload_hooks import computes_on

    device = computes_on(arm.pipeline)
    accelerator = accelerator_of(device)
    allocator = accelerator.allocator(accelerator.device(str(device), device.index))
    if allocator is None:
        return arm.simulated_peak().allocated_bytes
    return arm.peak_memory(allocator).allocated_bytes


def count_memory(arm: PreparedArm, root: Path) -> Counts:
    return Counts({"call": {PEAK_BYTES: peak_bytes(arm)}})


GATES = (MemoryGate(),)

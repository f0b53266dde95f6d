"""``no_gpu_syncs``: the CPU never waits for the device inside a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...accelerators.registry import accelerator_of
from ...arms.probes import syncs
from ...arms.spec import ArmSpec
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...techniques.stacks import BASELINE_NAME, Stack
from ..gate import NOT_SIMULATED, Gate, GateContext
from ..markers import GateMarker, NoGpuSyncs

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...syncs.report import SyncReport


class SyncGates(Gate):
    """Counts on the GPU of the session, or on a simulated one where the session has none."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoGpuSyncs,)
    counts: ClassVar[bool] = True

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        assert isinstance(marker, NoGpuSyncs)
        session, candidate = context.session, context.candidate
        if not accelerator_of(session.device).counts_syncs:
            candidate = simulable(context)
        report = syncs(candidate, scope=marker.scope, allow=marker.allow)
        result = _result(marker, context, candidate, report)
        session.journal.write("gate", **result.as_dict())
        return result


def simulable(context: GateContext) -> PreparedArm:
    """The candidate, without what cannot run on a simulated GPU: compiled code, int8 weights."""
    spec = context.candidate.spec
    kept = [t.name for t in spec.stack.techniques() if t.family not in NOT_SIMULATED]
    stack = Stack(tuple(kept) or (BASELINE_NAME,))
    if stack == spec.stack:
        context.candidate.require_unchanged()
        return context.candidate
    return context.session.arms.other(ArmSpec(spec.source, stack))


def _result(
    marker: NoGpuSyncs, context: GateContext, counted: PreparedArm, report: SyncReport
) -> GateResult:
    once, worst = report.first_step + report.outside, max(report.per_step, default=0)
    place = "the first step" if not report.outside else "the first step and outside the steps"
    problems = []
    if once > marker.first_step:
        problems.append(f"{once} in {place}, {marker.first_step} allowed")
    if worst > marker.per_step:
        problems.append(f"up to {worst} in a steady step, {marker.per_step} allowed")
    if marker.strict and report.may_block:
        problems.append(f"{report.may_block} pageable non_blocking copies, none allowed (strict)")
    stack, own = context.candidate.spec.stack, counted.spec.stack
    found = f"{once} syncs in {place}, at most {worst} in {len(report.per_step)} steady ones"
    found += "; ".join([f", {report.evidence}", *_notes(marker, report, stack, own)])
    reason = f"syncs in {report.scope}: "
    if problems:
        guilty = [s for s in report.sites if s.allowed is None and _counts(s.kind, marker)]
        reason += "; ".join(problems)
        reason += "".join(f"\n  {site}" for site in guilty)
    else:
        reason += found
    verdict = VerdictKind.FAIL if problems else VerdictKind.PASS
    return GateResult(
        gate=marker.marker,
        claim=marker.claim,
        test=context.test,
        stack=stack.name,
        verdict=verdict,
        reason=reason,
        evidence=Evidence.COUNTED,
        blocking=verdict is VerdictKind.FAIL,
        figures={
            "found": found,
            "scope": report.scope,
            "first_step": report.first_step,
            "per_step": list(report.per_step),
            "outside": report.outside,
            "may_block": report.may_block,
            "allowed_first_step": marker.first_step,
            "allowed_per_step": marker.per_step,
            "strict": marker.strict,
            "counted_on": report.evidence,
            "counted_with": own.name,
            "not_applied": [name for name in stack.names if name not in own.names],
            "sites": [vars(site) for site in report.sites],
            "unused_allowances": list(report.unused_allowances),
        },
    )


def _notes(marker: NoGpuSyncs, report: SyncReport, stack: Stack, own: Stack) -> list[str]:
    """What the reader of a PASS must know too."""
    notes = []
    if report.may_block and not marker.strict:
        notes.append(f"{report.may_block} pageable copies may block (gated with strict=True)")
    if own != stack:
        notes.append(
            f"counted with {own}: {_left_out(stack, own)} not applied, since techniques that "
            "change kernels only do not run on a simulated GPU"
        )
    notes += [f"allowed, but not seen any more: {text}" for text in report.unused_allowances]
    return notes


def _left_out(stack: Stack, own: Stack) -> str:
    return " and ".join(name for name in stack.names if name not in own.names)


def _counts(kind: str, marker: NoGpuSyncs) -> bool:
    return kind != "may_block" or marker.strict


GATES = (SyncGates(),)

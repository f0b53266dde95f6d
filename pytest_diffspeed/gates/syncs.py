"""``no_gpu_syncs``: the CPU never waits for the device inside a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..markers import GateMarker, NoGpuSyncs
from ..specs import ArmSpec
from ..techniques.base import Family
from ..techniques.stacks import BASELINE_NAME, Stack
from ..verdict import Evidence, GateResult, VerdictKind
from .base import Gate, GateContext

if TYPE_CHECKING:
    from ..prepared import PreparedArm
    from ..syncs.report import SyncReport

SIMULATED_STEPS = 6
"""Enough for the warm-up of multistep schedulers, some steady steps and the last one."""
_NOT_SIMULATED = (Family.QUANTIZATION, Family.COMPILE)


class SyncGates(Gate):
    """Counts on the GPU of the session, or on a simulated one where the session has none."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoGpuSyncs,)
    counts: ClassVar[bool] = True

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ..syncs.count import count_syncs  # torch: not at collection

        assert isinstance(marker, NoGpuSyncs)
        session, candidate = context.session, context.candidate
        on_gpu = session.device.kind == "cuda"
        if not on_gpu:
            candidate = _simulable(context)
        steps = candidate.call.defaults.steps
        if not on_gpu:
            steps = min(steps, SIMULATED_STEPS)
        whole = marker.scope != "scheduler.step"
        arguments = candidate.call.arguments(
            candidate.pipeline, output="pt" if whole else "latent", steps=steps
        )
        # That of a timed call is a CPU generator, whose noise a stochastic scheduler would copy to
        # the device in each step; without one the device draws.
        arguments.pop("generator", None)
        with candidate.running():
            report = count_syncs(
                candidate.pipeline,
                scope=marker.scope,
                device=str(session.device) if on_gpu else "simulated",
                steps=steps,
                allow=marker.allow,
                **arguments,
            )
        result = _result(marker, context, candidate, report)
        session.journal.write("gate", **result.as_dict())
        return result


def _simulable(context: GateContext) -> PreparedArm:
    """The candidate, without what cannot run on a simulated GPU: compiled code, int8 weights."""
    spec = context.candidate.spec
    kept = [t.name for t in spec.stack.techniques() if t.family not in _NOT_SIMULATED]
    stack = Stack(tuple(kept) or (BASELINE_NAME,))
    if stack == spec.stack:
        context.candidate.require_unchanged()
        return context.candidate
    return context.session.other(ArmSpec(spec.source, stack))


def _result(
    marker: NoGpuSyncs, context: GateContext, counted: PreparedArm, report: SyncReport
) -> GateResult:
    once, worst = report.first_step + report.outside, max(report.per_step, default=0)
    problems = []
    if once > marker.first_step:
        place = "the first step" if not report.outside else "the first step and outside the steps"
        problems.append(f"{once} in {place}, {marker.first_step} allowed")
    if worst > marker.per_step:
        problems.append(f"up to {worst} in a steady step, {marker.per_step} allowed")
    if marker.strict and report.may_block:
        problems.append(f"{report.may_block} pageable non_blocking copies, none allowed (strict)")
    stack, own = context.candidate.spec.stack, counted.spec.stack
    reason = f"syncs in {report.scope}, {report.evidence}: "
    if problems:
        guilty = [s for s in report.sites if s.allowed is None and _counts(s.kind, marker)]
        reason += "; ".join(problems)
        reason += "".join(f"\n  {site}" for site in guilty)
    else:
        reason += f"{once} in the first step, at most {worst} in {len(report.per_step)} steady ones"
    if report.may_block and not marker.strict:
        reason += f"; {report.may_block} pageable copies may block (gated with strict=True)"
    if own != stack:
        reason += f"; counted with {own}, since {stack} cannot run on a simulated GPU"
    for allowance in report.unused_allowances:
        reason += f"; allowed, but not seen any more: {allowance}"
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
            "found": f"{once} syncs in the first step{' and outside' if report.outside else ''}, "
            f"at most {worst} in {len(report.per_step)} steady ones",
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
            "sites": [vars(site) for site in report.sites],
            "unused_allowances": list(report.unused_allowances),
        },
    )


def _counts(kind: str, marker: NoGpuSyncs) -> bool:
    return kind != "may_block" or marker.strict


GATES = (SyncGates(),)

"""``no_gpu_syncs``: the CPU never waits for the device inside a scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.registry import accelerator_of
from ...arms.probes import syncs
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...techniques.stacks import Stack
from ..countable import counted_with, simulable
from ..gate import Gate, GateContext
from ..marker import GateMarker
from ..marker_values import (
    as_count,
    as_device,
    as_flag,
    as_one_of,
    as_optional_stack,
    as_words,
)

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...syncs.report import SyncReport


SCOPES = ("scheduler.step", "denoising_loop", "call")


@dataclass(frozen=True)
class NoGpuSyncs(GateMarker):
    """The CPU never waits for the device inside ``scope``."""

    signature: ClassVar[str] = (
        'no_gpu_syncs(scope="scheduler.step", first_step=0, per_step=0, allow=(), '
        "strict=False, stack=None, device=None): no host syncs"
    )
    scope: str | Callable[..., Any]
    first_step: int
    per_step: int
    allow: tuple[str, ...]
    strict: bool
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"no_gpu_syncs in {self.scope_name}"

    @property
    def scope_name(self) -> str:
        if isinstance(self.scope, str):
            return self.scope
        return str(getattr(self.scope, "__qualname__", type(self.scope).__name__))

    @classmethod
    def from_arguments(
        cls,
        scope: str | Callable[..., Any] = "scheduler.step",
        first_step: int = 0,
        per_step: int = 0,
        allow: Sequence[str] = (),
        strict: bool = False,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoGpuSyncs:
        return cls(
            scope if callable(scope) else as_one_of("scope", scope, SCOPES),
            as_count("first_step", first_step),
            as_count("per_step", per_step),
            as_words("allow", allow, least=0) or (),
            as_flag("strict", strict),
            as_optional_stack(stack),
            as_device(device),
        )


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
            **counted_with(stack, own)[1],
            "sites": [vars(site) for site in report.sites],
            "unused_allowances": list(report.unused_allowances),
        },
    )


def _notes(marker: NoGpuSyncs, report: SyncReport, stack: Stack, own: Stack) -> list[str]:
    """What the reader of a PASS must know too."""
    notes = []
    if report.may_block and not marker.strict:
        notes.append(f"{report.may_block} pageable copies may block (gated with strict=True)")
    other, _ = counted_with(stack, own)
    notes += [] if other is None else [other]
    notes += [f"allowed, but not seen any more: {text}" for text in report.unused_allowances]
    return notes


def _counts(kind: str, marker: NoGpuSyncs) -> bool:
    return kind != "may_block" or marker.strict


GATES = (SyncGates(),)

"""``no_gpu_syncs``: the CPU never waits for the device inside a scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.registry import accelerator_of
from ...arms.counts import CountedLine, Counts
from ...arms.probes import Probe
from ...common.errors import UncountableError, UsageError
from ...common.paths import in_packages, path_in_tree, short_path
from ...common.text import plural
from ...records.verdict import ONE_LINE, Axis, Cause, EvidenceKind, GateResult, Metric, VerdictKind
from ...syncs.allowances import parse_allowances
from ...syncs.scope_names import SCOPES, ScopeName
from ...techniques.stacks import Stack
from ..against_base.counts import BaseProbe, CountingGate
from ..countable import counted_with, simulable
from ..gate import GateContext
from ..marker import GateMarker
from ..marker_values import (
    BadValueError,
    as_count,
    as_device,
    as_flag,
    as_one_of,
    as_optional_stack,
    as_words,
)

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...syncs.report import SyncReport, SyncSite


SIMULATED_STEPS = 6
"""Enough for the warm-up of multistep schedulers, some steady steps and the last one."""


@dataclass(frozen=True)
class NoGpuSyncs(GateMarker):
    """The CPU never waits for the device inside ``scope``."""

    signature: ClassVar[str] = (
        'no_gpu_syncs(scope="scheduler.step", first_step=0, per_step=0, allow=(), '
        "strict=False, stack=None, device=None): no host syncs"
    )
    axis: ClassVar[Axis] = Axis.STRUCTURE
    scope: ScopeName | Callable[..., Any]
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
        scope: ScopeName | Callable[..., Any] = "scheduler.step",
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
            _as_allowances(allow),
            as_flag("strict", strict),
            as_optional_stack(stack),
            as_device(device),
        )


def _as_allowances(given: Sequence[str]) -> tuple[str, ...]:
    """Texts of which each allows something."""
    texts = as_words("allow", given, least=0) or ()
    try:
        parse_allowances(texts)
    except UsageError as error:
        raise BadValueError("allow", f"takes lines: {error}") from None
    return texts


class SyncGates(CountingGate):
    """Counts on the GPU of the session, or on a simulated one where the session has none."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoGpuSyncs,)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        assert isinstance(marker, NoGpuSyncs)
        session, candidate = context.session, context.candidate
        if not accelerator_of(session.device).counts_syncs:
            candidate = simulable(context)
        report = syncs(candidate, scope=marker.scope, allow=marker.allow)
        return context.publish(_result(marker, context, candidate, report))

    def base_probe(self, marker: GateMarker, context: GateContext) -> BaseProbe:
        assert isinstance(marker, NoGpuSyncs)
        if not isinstance(marker.scope, str):
            raise UncountableError(
                f"the scope {marker.scope_name} is an object of this process, which the base's "
                "process does not have; give a scope by name to compare it with a base"
            )
        on_gpu = accelerator_of(context.session.device).counts_syncs
        return BaseProbe(
            Probe("syncs", count_host_syncs),
            context.candidate if on_gpu else simulable(context),
            {"scope": marker.scope, "allow": list(marker.allow), "strict": marker.strict},
        )


def _result(
    marker: NoGpuSyncs, context: GateContext, counted: PreparedArm, report: SyncReport
) -> GateResult:
    once, worst = report.first_step + report.outside, max(report.per_step, default=0)
    place = "the first step" if not report.outside else "the first step and outside the steps"
    problems: list[str] = []
    if once > marker.first_step:
        problems.append(f"{once} in {place}, {marker.first_step} allowed")
    if worst > marker.per_step:
        problems.append(f"up to {worst} in a steady step, {marker.per_step} allowed")
    if marker.strict and report.may_block:
        copies = "copy" if report.may_block == 1 else "copies"
        problems.append(f"{report.may_block} pageable non_blocking {copies}, none allowed (strict)")
    stack, own = context.candidate.spec.stack, counted.spec.stack
    steady = plural(len(report.per_step), "steady one")
    found = f"{plural(once, 'sync')} in {place}, at most {worst} in {steady}"
    found += "; ".join([f", {report.evidence}", *_notes(marker, report, stack, own)])
    reason = f"syncs in {report.scope}: "
    guilty = [s for s in report.sites if s.allowed is None and _counts(s.kind, marker)]
    # A budget does not say which lines it is for. Those of a library were there before the change
    # more often than the project's own, which come first.
    guilty.sort(key=lambda site: in_packages(site.file) is not None)
    if problems:
        reason += "; ".join(problems)
        reason += "".join(f"\n  {site}" for site in guilty)
    else:
        reason += found
    verdict = VerdictKind.FAIL if problems else VerdictKind.PASS
    return context.result(
        marker,
        verdict,
        reason=reason,
        evidence=EvidenceKind.COUNTED,
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
            "schedulers": [vars(scheduler) for scheduler in report.schedulers],
            "sites": [vars(site) for site in report.sites],
            "unused_allowances": list(report.unused_allowances),
        },
        metrics=sync_metrics(once, report.per_step),
        cause=_cause(guilty, _clause(problems, report, marker), once, worst) if problems else None,
    )


def sync_metrics(once: int, per_step: Sequence[int]) -> list[Metric]:
    """What exports and the history follow: syncs ``once`` a call, and the worst of its steps."""
    return [
        Metric("syncs_first_step", once, "host syncs", series="syncs once"),
        Metric(
            "syncs_per_step",
            max(per_step, default=0),
            "host syncs",
            series="syncs a step" if per_step else None,
        ),
    ]


def _clause(problems: Sequence[str], report: SyncReport, marker: NoGpuSyncs) -> str:
    """The problems in a few words, where both kinds of steps have one."""
    allowed, worst = marker.per_step, max(report.per_step, default=0)
    is_of_both = report.first_step > allowed < worst and not report.outside
    if len(problems) == 2 and is_of_both and marker.first_step == allowed:
        return f"{report.first_step} at first, then up to {worst} a step; {allowed} allowed"
    return "; ".join(problems)


def _cause(guilty: Sequence[SyncSite], found: str, once: int, worst: int) -> Cause:
    """The worst line; where it is the project's own, the budget that would allow it stands beside
    the remedy if a line has room for both.
    """
    from ...syncs.remedies import remedy

    if not guilty:
        step = f"see which line with -v, or no_gpu_syncs(first_step={once}, per_step={worst})"
        return Cause("GPU SYNC", found, step)
    first = guilty[0]
    if len(guilty) > 1:
        found += f" ({len(guilty)} lines)"
    step = remedy(first)
    if in_packages(first.file) is None and (once or worst):
        budget = f"; or no_gpu_syncs(first_step={once}, per_step={worst})"
        step += budget if len(step + budget) <= ONE_LINE else ""
    place = f"{short_path(first.file)}:{first.line}"
    return Cause("GPU SYNC", found, step, place, first.source or None)


def _notes(marker: NoGpuSyncs, report: SyncReport, stack: Stack, own: Stack) -> list[str]:
    """What the reader of a PASS must know too."""
    notes = []
    if report.may_block and not marker.strict:
        notes.append(f"{report.may_block} pageable copies may block (gated with strict=True)")
    if len(report.schedulers) > 1:
        notes.append(f"schedulers that stepped: {', '.join(map(str, report.schedulers))}")
    notes += [report.remark] if report.remark else []
    allowed = sum(site.count for site in report.sites if site.allowed is not None)
    notes += [f"{allowed} more by allow="] if allowed else []
    other, _ = counted_with(stack, own)
    notes += [] if other is None else [other]
    notes += [f"allowed, but not seen any more: {text}" for text in report.unused_allowances]
    return notes


def _counts(kind: str, marker: NoGpuSyncs) -> bool:
    return kind != "may_block" or marker.strict


def syncs(
    arm: PreparedArm, *, scope: ScopeName | Callable[..., Any], allow: Sequence[str] = ()
) -> SyncReport:
    """Host syncs of one call: on the arm's GPU, or on a simulated one if it has none."""
    from ...adapters.offload_hooks import computes_on
    from ...syncs.prepared_call import count_call

    device = computes_on(arm.pipeline)
    on_gpu = accelerator_of(device).counts_syncs
    # Nothing is timed: a call of one step would say nothing of the steady ones.
    steps = max(2, arm.call.defaults.steps)
    if not on_gpu:
        steps = min(steps, SIMULATED_STEPS)
    with arm.running():
        return count_call(
            arm.pipeline,
            arm.call,
            scope=scope,
            steps=steps,
            device=str(device) if on_gpu else "simulated",
            allow=allow,
        )


def count_host_syncs(
    arm: PreparedArm, root: Path, *, scope: ScopeName, allow: Sequence[str], strict: bool
) -> Counts:
    report = syncs(arm, scope=scope, allow=allow)
    counts = {
        "first step": report.first_step + report.outside,
        "steady step": max(report.per_step, default=0),
    }
    if strict:
        counts["may block"] = report.may_block
    return Counts(
        {report.scope: counts},
        tuple(
            CountedLine(
                report.scope,
                f"{site.kind} {site.op}",
                path_in_tree(site.file, root),
                site.line,
                site.function,
                site.source,
                site.count,
            )
            for site in report.sites
            if site.allowed is None and (strict or site.kind != "may_block")
        ),
    )


GATES = (SyncGates(),)

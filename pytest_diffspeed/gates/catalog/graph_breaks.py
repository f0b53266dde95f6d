"""``no_graph_breaks``: each component is captured in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ...arms.counts import CountedLine, Counts
from ...arms.probes import Probe
from ...common.errors import DiffspeedError, MeasurementError
from ...common.paths import path_in_tree
from ...common.text import plural
from ...records.verdict import Axis, Cause, EvidenceKind, GateResult, Metric, VerdictKind
from ...techniques.stacks import Stack
from ..against_base.counts import BaseProbe, CountingGate
from ..gate import GateContext
from ..marker import GateMarker
from ..marker_values import as_components, as_count, as_device, as_optional_stack
from ..saved_counts import SAVED, UPDATE, saved_counts

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...compilation.report import GraphBreak, GraphBreakReport


@dataclass(frozen=True)
class NoGraphBreaks(GateMarker):
    """``torch.compile`` captures each component in one graph."""

    signature: ClassVar[str] = (
        "no_graph_breaks(components=None, max_breaks=0, stack=None, device=None): what "
        "runs in the steps and after them compiles without graph breaks"
    )
    axis: ClassVar[Axis] = Axis.STRUCTURE
    components: tuple[str, ...] | None
    max_breaks: int | None
    """``None``: only the file of counts limits it."""
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        components: Sequence[str] | None = None,
        max_breaks: int | str = 0,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoGraphBreaks:
        return cls(
            as_components("components", components),
            None if max_breaks == SAVED else as_count("max_breaks", max_breaks),
            as_optional_stack(stack),
            as_device(device),
        )


class NoGraphBreaksGate(CountingGate):
    """Looks at each component, uncompiled, with the inputs that a real call gives it.

    Nothing is timed and nothing of the arm is changed.  The reports are kept, so that a second gate
    on the same arm looks at nothing again.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoGraphBreaks,)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:

        assert isinstance(marker, NoGraphBreaks)
        session, candidate = context.session, context.candidate
        candidate.require_unchanged()
        with session.progress.phase(f"looking for graph breaks in {candidate.spec.stack}"):
            reports = graph_breaks(candidate, marker.components)
        left_out = candidate.not_looked_at(report.name for report in reports)
        ratchet = saved_counts(session).check(
            context,
            {
                report.name: {
                    "graphs": report.graphs,
                    "breaks": len(report.breaks),
                    "ops": report.ops,
                }
                for report in reports
            },
            needed=marker.max_breaks is None,
        )
        breaks = [found for report in reports for found in report.breaks]
        limit = marker.max_breaks
        too_many = limit is not None and len(breaks) > limit
        silent = [r for r in reports if r.counted and not r.breaks]
        failed = too_many or bool(ratchet.worse) or (limit == 0 and bool(silent))
        allowed = SAVED if limit is None else str(limit)
        looked_at = [f"{report.summary()}, {report.ops} ops" for report in reports]
        found = "; ".join([*looked_at, *_left_out(left_out)])
        reason = [f"{plural(len(breaks), 'graph break')}, allowed: {allowed}"]
        if breaks:
            reason += [line for report in reports if report.breaks for line in _lines_of(report)]
        notes = [f"{r.name}: {note}" for r in reports for note in r.notes]
        result = context.result(
            marker,
            VerdictKind.FAIL if failed else VerdictKind.PASS,
            reason="\n".join([*reason, *notes, *ratchet.lines]),
            evidence=EvidenceKind.COUNTED,
            figures={
                "found": "; ".join([found, *ratchet.better]),
                "breaks": len(breaks),
                "allowed": limit,
                "worse": list(ratchet.worse),
                "components": {report.name: report.as_dict() for report in reports},
                "not_looked_at": list(left_out),
            },
            metrics=[Metric("breaks", len(breaks), "graph breaks", series="breaks")],
            cause=_cause(breaks, limit, ratchet.worse, silent),
        )
        return context.publish(result)

    def base_probe(self, marker: GateMarker, context: GateContext) -> BaseProbe:
        assert isinstance(marker, NoGraphBreaks)
        components = None if marker.components is None else list(marker.components)
        return BaseProbe(
            Probe("graph breaks", count_breaks), context.candidate, {"components": components}
        )


def _cause(
    breaks: Sequence[GraphBreak],
    limit: int | None,
    worse: Sequence[str],
    silent: Sequence[GraphBreakReport],
) -> Cause | None:
    """The first break, if any; what is allowed is the next step only where nothing removes it."""
    if worse and (limit is None or len(breaks) <= limit):
        return Cause("GRAPH BREAK", worse[0], f"see its line with -v, or {UPDATE}")
    if breaks:
        first = breaks[0]
        more = f" (and {plural(len(breaks) - 1, 'more break')})" if len(breaks) > 1 else ""
        return Cause(
            "GRAPH BREAK",
            f"{first.reason}{more}",
            first.remedy or f"take it out of the compiled part, or max_breaks={len(breaks)}",
            first.where,
            first.source or None,
        )
    if silent:
        found = f"{silent[0].name}: dynamo counted {next(iter(silent[0].counted))} without a place"
        return Cause("GRAPH BREAK", found, "see TORCH_LOGS=graph_breaks for where it is")
    return None


def _lines_of(report: GraphBreakReport) -> list[str]:
    return [f"{report.name} ({report.how}):"] + [
        f"  {line}" for found in report.breaks for line in str(found).splitlines()
    ]


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"not looked at: {', '.join(names)}"] if names else []


def graph_breaks(
    arm: PreparedArm, components: tuple[str, ...] | None
) -> tuple[GraphBreakReport, ...]:
    """A look at each of the components of an arm's pipeline; kept for the next gate.

    By default at all that run in the steps and after them.

    Raises:
        MeasurementError: one of them could not be looked at; the sentence names them all.
    """
    from ...compilation.probe import probe_breaks
    from ...pipelines.capture import capture
    from ...techniques.apply import PROOF_STEPS

    key = ("graph breaks", components)
    if key not in arm.memo:
        reports: list[GraphBreakReport] = []
        problems: list[str] = []
        observed, steps = arm.observed()
        with arm.running():
            captured = capture(
                arm.pipeline,
                lambda: arm.call(arm.pipeline, steps=steps),
                components,
                observed=observed,
                steps=PROOF_STEPS,
            )
            for one in captured:
                try:
                    reports.append(
                        probe_breaks(one.fn, one.calls, name=one.name, restart=one.restart)
                    )
                except DiffspeedError as error:
                    problems.append(str(error))
        if problems:
            raise MeasurementError("; ".join(problems))
        arm.memo[key] = tuple(reports)
    found: tuple[GraphBreakReport, ...] = arm.memo[key]
    return found


def count_breaks(arm: PreparedArm, root: Path, *, components: Sequence[str] | None) -> Counts:
    reports = graph_breaks(arm, None if components is None else tuple(components))
    counts = {r.name: {"breaks": len(r.breaks), "graphs": r.graphs} for r in reports}
    return Counts(
        counts,
        tuple(
            CountedLine(
                report.name,
                found.reason,
                path_in_tree(found.file, root),
                found.line,
                found.function,
                found.source,
                found.runs or 1,
            )
            for report in reports
            for found in report.breaks
        ),
    )


GATES = (NoGraphBreaksGate(),)

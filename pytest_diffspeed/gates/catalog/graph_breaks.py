"""``no_graph_breaks``: each component is captured in one graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...arms.probes import graph_breaks
from ...records.verdict import Evidence, GateResult, VerdictKind
from ..gate import Gate, GateContext
from ..markers import SAVED, GateMarker, NoGraphBreaks
from ..saved_counts import saved_counts

if TYPE_CHECKING:
    from ...compilation.report import GraphBreakReport


class NoGraphBreaksGate(Gate):
    """Looks at each component, uncompiled, with the inputs that a real call gives it.

    Nothing is timed and nothing of the arm is changed.  The reports are kept, so that a second gate
    on the same arm looks at nothing again.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoGraphBreaks,)
    counts: ClassVar[bool] = True

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ...compilation.report import plural

        assert isinstance(marker, NoGraphBreaks)
        session, candidate = context.session, context.candidate
        candidate.require_unchanged()
        with session.progress.phase(f"looking for graph breaks in {candidate.spec.stack}"):
            reports = graph_breaks(candidate, marker.components)
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
        found = "; ".join(f"{report.summary()}, {report.ops} ops" for report in reports)
        reason = [f"{plural(len(breaks), 'graph break')}, allowed: {allowed}"]
        if breaks:
            reason += [line for report in reports if report.breaks for line in _lines_of(report)]
        notes = [f"{r.name}: {note}" for r in reports for note in r.notes]
        result = GateResult(
            gate=marker.marker,
            claim=marker.claim,
            test=context.test,
            stack=candidate.spec.stack.name,
            verdict=VerdictKind.FAIL if failed else VerdictKind.PASS,
            reason="\n".join([*reason, *notes, *ratchet.lines]),
            evidence=Evidence.COUNTED,
            blocking=failed,
            figures={
                "found": "; ".join([found, *ratchet.better]),
                "breaks": len(breaks),
                "allowed": limit,
                "components": {report.name: report.as_dict() for report in reports},
            },
        )
        session.journal.write("gate", **result.as_dict())
        return result


def _lines_of(report: GraphBreakReport) -> list[str]:
    return [f"{report.name} ({report.how}):"] + [
        f"  {line}" for found in report.breaks for line in str(found).splitlines()
    ]


GATES = (NoGraphBreaksGate(),)

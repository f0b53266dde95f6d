"""``no_graph_breaks``: each component is captured in one graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...arms.probes import graph_breaks, not_looked_at
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...techniques.stacks import Stack
from ..gate import Gate, GateContext
from ..marker import GateMarker
from ..marker_values import as_component, as_count, as_device, as_optional_stack, as_words
from ..saved_counts import SAVED, saved_counts

if TYPE_CHECKING:
    from ...compilation.report import GraphBreakReport


@dataclass(frozen=True)
class NoGraphBreaks(GateMarker):
    """``torch.compile`` captures each component in one graph."""

    signature: ClassVar[str] = (
        "no_graph_breaks(components=None, max_breaks=0, stack=None, device=None): what "
        "runs in the steps and after them compiles without graph breaks"
    )
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
            _as_components(components),
            None if max_breaks == SAVED else as_count("max_breaks", max_breaks),
            as_optional_stack(stack),
            as_device(device),
        )


def _as_components(value: Sequence[str] | None) -> tuple[str, ...] | None:
    parts = as_words("components", value)
    return None if parts is None else tuple(as_component("components", part) for part in parts)


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
        left_out = not_looked_at(candidate, (report.name for report in reports))
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
                "not_looked_at": list(left_out),
            },
        )
        session.journal.write("gate", **result.as_dict())
        return result


def _lines_of(report: GraphBreakReport) -> list[str]:
    return [f"{report.name} ({report.how}):"] + [
        f"  {line}" for found in report.breaks for line in str(found).splitlines()
    ]


def _left_out(names: Sequence[str]) -> list[str]:
    return [f"not looked at: {', '.join(names)}"] if names else []


GATES = (NoGraphBreaksGate(),)

"""``no_recompiles``: after warm-up nothing compiles again, and what was compiled stays so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...arms.probes import recompiles
from ...compilation.counts_file import storable
from ...records.verdict import Evidence, GateResult, VerdictKind
from ...techniques.stacks import Stack
from ..gate import Gate, GateContext
from ..marker import GateMarker
from ..marker_values import (
    as_count,
    as_counts,
    as_device,
    as_numbers,
    as_optional_stack,
    as_sizes,
    as_words,
)
from ..saved_counts import SAVED, saved_counts

if TYPE_CHECKING:
    from ...compilation.recompiles import RecompileReport


@dataclass(frozen=True)
class NoRecompiles(GateMarker):
    """After warm-up nothing compiles again."""

    signature: ClassVar[str] = (
        "no_recompiles(max_recompiles=0, sizes=None, batch_sizes=None, prompts=None, "
        "guidance=None, stack=None, device=None): nothing compiles again after warm-up"
    )
    max_recompiles: int | None
    """``None``: only the file of counts limits it."""
    sizes: tuple[tuple[int, int], ...] | None
    batch_sizes: tuple[int, ...] | None
    prompts: tuple[str, ...] | None
    guidance: tuple[float, ...] | None
    stack: Stack | None
    device: str | None

    @classmethod
    def from_arguments(
        cls,
        max_recompiles: int | str = 0,
        sizes: Sequence[tuple[int, int]] | None = None,
        batch_sizes: Sequence[int] | None = None,
        prompts: Sequence[str] | None = None,
        guidance: Sequence[float] | None = None,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoRecompiles:
        return cls(
            None if max_recompiles == SAVED else as_count("max_recompiles", max_recompiles),
            as_sizes("sizes", sizes),
            as_counts("batch_sizes", batch_sizes, least=1),
            as_words("prompts", prompts),
            as_numbers("guidance", guidance),
            as_optional_stack(stack),
            as_device(device),
        )


class NoRecompilesGate(Gate):
    """Calls the arm as it is: again, and with each size, batch, prompt and guidance asked for."""

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoRecompiles,)
    counts: ClassVar[bool] = True

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        from ...compilation.report import plural

        assert isinstance(marker, NoRecompiles)
        session, arm = context.session, context.candidate
        arm.require_unchanged()
        with session.progress.phase(f"looking for recompilations of {arm.spec.stack}"):
            report = recompiles(arm, **calls_of(marker))
        count = len(report.recompiles)
        limit = marker.max_recompiles
        ratchet = saved_counts(session).check(context, _saved(report), needed=limit is None)
        failed = (
            (limit is not None and count > limit)
            or bool(report.eager or report.cudagraph_skips)
            or bool(ratchet.worse)
        )
        allowed = SAVED if limit is None else str(limit)
        reason = [
            f"{plural(count, 'recompilation')} after warm-up, allowed: {allowed}",
            *map(str, report.recompiles),
            *report.eager,
            *report.cudagraph_skips,
            *report.often,
            *ratchet.lines,
        ]
        found = [
            f"{plural(count, 'recompilation')} over {plural(len(report.calls), 'call')} after "
            "warm-up",
            *(["parts run eagerly"] if report.eager else []),
            *report.often,
            *ratchet.better,
        ]
        result = GateResult(
            gate=marker.marker,
            claim=marker.claim,
            test=context.test,
            stack=arm.spec.stack.name,
            verdict=VerdictKind.FAIL if failed else VerdictKind.PASS,
            reason="\n".join(reason),
            evidence=Evidence.COUNTED,
            blocking=failed,
            figures={
                "found": "; ".join(found),
                "recompiles": count,
                "allowed": limit,
                "report": report.as_dict(),
            },
        )
        session.journal.write("gate", **result.as_dict())
        return result


def calls_of(marker: NoRecompiles) -> dict[str, Any]:
    """The kinds of calls that a marker asks for, as ``recompiles`` of the probes takes them."""
    return {
        "sizes": marker.sizes or (),
        "batch_sizes": marker.batch_sizes or (),
        "prompts": marker.prompts or (),
        "guidance": marker.guidance or (),
    }


def _saved(report: RecompileReport) -> dict[str, dict[str, int]]:
    """The counts of each component, named with the calls they were counted over.

    Two tests of one stack may ask for different calls; each has entries of its own.
    """
    over = ", ".join(report.calls[1:])
    return {
        storable(f"{component} over {over}" if over else component): {"recompiles": count}
        for component, count in report.by_component().items()
    }


GATES = (NoRecompilesGate(),)

"""``no_recompiles``: after warm-up nothing compiles again, and what was compiled stays so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...accelerators.registry import accelerator_of
from ...arms.counts import CountedLine, Counts
from ...arms.probes import Probe
from ...common.errors import MeasurementError
from ...common.paths import path_in_tree, short_path
from ...common.text import plural
from ...compilation.counts_file import storable
from ...records.verdict import Axis, Cause, EvidenceKind, GateResult, Metric, VerdictKind
from ...techniques.catalog.lora import lora_scale
from ...techniques.stacks import Stack
from ..against_base.counts import BaseProbe, CountingGate
from ..gate import GateContext
from ..marker import GateMarker
from ..marker_values import (
    as_components,
    as_count,
    as_counts,
    as_device,
    as_numbers,
    as_optional_stack,
    as_sizes,
    as_words,
)
from ..saved_counts import SAVED, UPDATE, saved_counts

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...compilation.recompiles import RecompileReport
    from ...pipelines.entries import Entry
    from ...pipelines.what_ran import ObservedComponent


@dataclass(frozen=True)
class NoRecompiles(GateMarker):
    """After warm-up nothing compiles again."""

    signature: ClassVar[str] = (
        "no_recompiles(max_recompiles=0, sizes=None, batch_sizes=None, prompts=None, "
        "guidance=None, components=None, loras=None, stack=None, device=None): nothing compiles "
        "again after warm-up"
    )
    axis: ClassVar[Axis] = Axis.STRUCTURE
    max_recompiles: int | None
    """``None``: only the file of counts limits it."""
    sizes: tuple[tuple[int, int], ...] | None
    batch_sizes: tuple[int, ...] | None
    prompts: tuple[str, ...] | None
    guidance: tuple[float, ...] | None
    components: tuple[str, ...] | None
    loras: tuple[str, ...] | None
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
        components: Sequence[str] | None = None,
        loras: Sequence[str] | None = None,
        stack: str | None = None,
        device: str | None = None,
    ) -> NoRecompiles:
        return cls(
            None if max_recompiles == SAVED else as_count("max_recompiles", max_recompiles),
            as_sizes("sizes", sizes),
            as_counts("batch_sizes", batch_sizes, least=1),
            as_words("prompts", prompts),
            as_numbers("guidance", guidance),
            as_components("components", components),
            as_words("loras", loras),
            as_optional_stack(stack),
            as_device(device),
        )


class NoRecompilesGate(CountingGate):
    """Calls the arm as it is: again, and with each size, batch, prompt, guidance and adapter asked
    for.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (NoRecompiles,)

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:

        assert isinstance(marker, NoRecompiles)
        session, arm = context.session, context.candidate
        arm.require_unchanged()
        with session.progress.phase(f"looking for recompilations of {arm.spec.stack}"):
            report = recompiles(arm, **calls_of(marker))
        left_out = arm.not_looked_at([*report.components, *report.left_out])
        not_chosen = [n for n in arm.not_looked_at(report.components) if n not in left_out]
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
            *([f"not looked at: {', '.join(not_chosen)}"] if not_chosen else []),
            *([f"not compiled, so not looked at: {', '.join(left_out)}"] if left_out else []),
        ]
        result = context.result(
            marker,
            VerdictKind.FAIL if failed else VerdictKind.PASS,
            reason="\n".join(reason),
            evidence=EvidenceKind.COUNTED,
            figures={
                "found": "; ".join(found),
                "recompiles": count,
                "allowed": limit,
                "report": report.as_dict(),
                "not_looked_at": [*not_chosen, *left_out],
            },
            metrics=[Metric("recompiles", count, "recompilations", series="recompiles")],
            cause=_cause(report, limit, ratchet.worse),
        )
        return context.publish(result)

    def base_probe(self, marker: GateMarker, context: GateContext) -> BaseProbe:
        assert isinstance(marker, NoRecompiles)
        probe = Probe("recompiles", count_recompiles)
        calls = calls_of(marker)
        if marker.loras:
            calls["loras"] = [context.session.workers.in_both(path) for path in marker.loras]
        return BaseProbe(probe, context.candidate, calls)


def _cause(report: RecompileReport, limit: int | None, worse: Sequence[str]) -> Cause | None:
    """The guard and the value that failed it, if one did, also where the compiler gave up."""
    from ...compilation.recompile_hints import remedy

    too_many = limit is not None and len(report.recompiles) > limit
    if worse and not too_many:
        return Cause("RECOMPILATION", worse[0], f"see which guard fails with -v, or {UPDATE}")
    if report.gave_up or (report.recompiles and not report.eager):
        first = (report.gave_up or report.recompiles)[0]
        kind = "RUNS EAGERLY" if report.gave_up else "RECOMPILATION"
        many = len(report.recompiles)
        found = f"{first.when}: {first.why}" + (f" ({many} in all)" if many > 1 else "")
        place = f"{short_path(first.file)}:{first.line}"
        return Cause(kind, found, remedy(first.why), place, f"def {first.function}")
    if report.eager:
        step = "see which part it is with TORCH_LOGS=recompiles,graph_breaks"
        return Cause("RUNS EAGERLY", report.eager[0], step)
    if report.cudagraph_skips:
        step = "do what the reason names in this part, or use a stack without CUDA graphs"
        return Cause("CUDA GRAPHS", report.cudagraph_skips[0], step)
    return None


def calls_of(marker: NoRecompiles) -> dict[str, Any]:
    """The kinds of calls that a marker asks for, as ``recompiles`` of the probes takes them."""
    return {
        "sizes": marker.sizes or (),
        "batch_sizes": marker.batch_sizes or (),
        "prompts": marker.prompts or (),
        "guidance": marker.guidance or (),
        # A base of before it does not know the word.
        **({"loras": marker.loras} if marker.loras else {}),
        "components": marker.components,
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


def recompiles(
    arm: PreparedArm,
    *,
    sizes: Sequence[tuple[int, int]] = (),
    batch_sizes: Sequence[int] = (),
    prompts: Sequence[str] = (),
    guidance: Sequence[float] = (),
    loras: Sequence[str] = (),
    components: Sequence[str] | None = None,
) -> RecompileReport:
    """What compiles again after warm-up: over a repeated call, and one of each kind asked for.

    Those of ``loras`` have that adapter in place of the one that is loaded, swapped as diffusers
    does it in a compiled pipeline; the first one is put back.

    Of all that is compiled, or of ``components``, words as ``no_graph_breaks`` takes them.

    Raises:
        UsageError: a call runs none of a component that was asked for.
        SourceError: one of ``loras`` cannot be swapped in.
        MeasurementError: nothing of a denoiser (or of a component that was asked for) is compiled,
            so it was not looked at.
    """
    from ...compilation.recompiles import find_recompiles
    from ...pipelines.compile_failure import explain_compile_failure
    from ...pipelines.entries import chosen_entries
    from ...pipelines.lora import kept
    from ...pipelines.parts import parts
    from ...pipelines.variants import variants

    observed, steps = arm.observed()
    wanted: Sequence[ObservedComponent | Entry] = observed.denoisers
    if components is not None:
        wanted = chosen_entries(observed, components, "components")
    calls = variants(
        arm.pipeline,
        arm.call,
        steps=steps,
        sizes=sizes,
        batch_sizes=batch_sizes,
        prompts=prompts,
        guidance=guidance,
        loras=loras,
        lora_scale=lora_scale(arm.spec.stack.techniques()),
    )
    with arm.running(), kept(arm.pipeline) if loras else nullcontext():
        report = find_recompiles(
            parts(arm.pipeline),
            calls,
            warm_up=lambda: arm.call(arm.pipeline, steps=steps),
            cuda_graphs=accelerator_of(arm.pipeline.device).has_graphs,
            skipped_before=arm.compilation.cudagraph_skips,
            explain=lambda call, error: explain_compile_failure(arm.pipeline, call, error),
            only=lambda name: components is None or any(_covers([name], w.name) for w in wanted),
        )
    left_out = [one.ran for one in wanted if not _covers(report.components, one.name)]
    if left_out:
        raise MeasurementError(
            f"nothing of {', '.join(left_out)} is compiled, so whether it compiles again cannot be "
            f"said; compiled: {', '.join((*report.components, *report.left_out))}; compile it in "
            "the stack too"
        )
    return report


def _covers(compiled: Iterable[str], name: str) -> bool:
    """Whether something of the component ``name`` is among what is compiled."""
    return any(one == name or one.startswith(f"{name}.") for one in compiled)


def count_recompiles(arm: PreparedArm, root: Path, **over: Any) -> Counts:
    report = recompiles(arm, **over)
    # The guard's text names objects by address and sizes by value; the function is what stays.
    again = Counter(
        (one.component, path_in_tree(one.file, root), one.line, one.function)
        for one in report.recompiles
    )
    counts: dict[str, dict[str, int]] = {
        name: {"recompiles": count} for name, count in report.by_component().items()
    }
    counts["pipeline"] = {
        "parts that run eagerly": len(report.eager),
        "CUDA graphs skipped": len(report.cudagraph_skips),
    }
    sites = tuple(
        CountedLine(component, "compiled again", file, line, function, "", count)
        for (component, file, line, function), count in again.items()
    )
    return Counts(counts, sites, (*map(str, report.recompiles), *report.eager))


GATES = (NoRecompilesGate(),)

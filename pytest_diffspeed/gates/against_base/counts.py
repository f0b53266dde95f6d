"""What is counted, against the base: breaks, recompilations, syncs, memory, and where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...accelerators.registry import accelerator_of
from ...arms.counts import Counts, Site
from ...arms.probes import probe
from ...common.errors import UncountableError
from ...records.verdict import Evidence, GateResult, VerdictKind
from ..catalog.graph_breaks import NoGraphBreaks
from ..catalog.memory import MaxMemory
from ..catalog.recompiles import NoRecompiles, calls_of
from ..catalog.syncs import NoGpuSyncs
from ..countable import counted_with, require_countable, require_eager, simulable
from ..gate import GateContext
from ..marker import GateMarker

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm
    from ...arms.worker.arm import WorkerArm

MEMORY_PERCENT = 5.0
"""What the peak of a call may grow by: a rounding of the allocator is no regression."""
ArmOfBase = Callable[["PreparedArm"], "WorkerArm"]
"""Gives the base's arm with the same stack as an arm of this tree."""


@dataclass(frozen=True)
class Difference:
    """What changed from the base to this tree; ``worse`` and ``better`` are a sentence each.

    ``new`` are places that the base does not have, or not so often; ``gone`` the other way round.
    """

    worse: tuple[str, ...]
    better: tuple[str, ...]
    new: tuple[Site, ...]
    gone: tuple[Site, ...]


def count_against_base(marker: GateMarker, context: GateContext, of_base: ArmOfBase) -> GateResult:
    """Count the same of both and compare.

    Raises:
        UncountableError: this marker, or this stack, cannot be counted in another process.
        MeasurementError: one of them could not be counted.
    """
    at, how, arm, percent = _what(marker, context)
    own_root = str(_root(context))
    with context.session.progress.phase(f"{at} of {arm.spec.stack} against the base"):
        head = probe(arm, at, own_root, how)
        base = of_base(arm).probe(at, **how)
    return _result(marker, context, arm, base, head, percent)


def _what(
    marker: GateMarker, context: GateContext
) -> tuple[str, dict[str, Any], PreparedArm, float]:
    """The probe, its arguments, the arm to probe, and by how many percent a count may grow."""
    candidate = context.candidate
    on_gpu = accelerator_of(context.session.device).counts_syncs
    if isinstance(marker, NoGraphBreaks):
        components = None if marker.components is None else list(marker.components)
        return "graph breaks", {"components": components}, candidate, 0.0
    if isinstance(marker, NoRecompiles):
        return "recompiles", calls_of(marker), candidate, 0.0
    if isinstance(marker, NoGpuSyncs):
        if not isinstance(marker.scope, str):
            raise UncountableError(
                f"the scope {marker.scope_name} is an object of this process, which the base's "
                "process does not have; give a scope by name to compare it with a base"
            )
        how = {"scope": marker.scope, "allow": list(marker.allow), "strict": marker.strict}
        return "syncs", how, candidate if on_gpu else simulable(context), 0.0
    assert isinstance(marker, MaxMemory), "unreachable: these are all markers that count"
    if on_gpu:
        require_countable(candidate)
    else:
        require_eager(candidate.spec.stack)
    return "memory", {}, candidate if on_gpu else simulable(context), MEMORY_PERCENT


def _root(context: GateContext) -> Path:
    base = context.session.base
    assert base is not None
    return context.session.rootdir if base.commit is None else base.commit.top


def difference(base: Counts, head: Counts, percent: float = 0.0) -> Difference:
    """Compare counts; each may grow by ``percent`` before that is worse."""
    worse: list[str] = []
    better: list[str] = []
    for component, counts in head.counts.items():
        before_all = base.counts.get(component)
        for what, now in counts.items():
            if before_all is None and what == "graphs":
                continue  # any component has one; breaks tell whether it has too many
            before = (before_all or {}).get(what, 0)
            message = f"{component}: {what} {before} → {now}"
            if now > before * (1.0 + percent / 100.0):
                worse.append(message)
            elif now < before:
                better.append(message)
    return Difference(
        tuple(worse), tuple(better), _more(head.sites, base.sites), _more(base.sites, head.sites)
    )


def _more(sites: tuple[Site, ...], than: tuple[Site, ...]) -> tuple[Site, ...]:
    """The sites that the others do not have, or not so often."""
    left: Counter[tuple[str, ...]] = Counter()
    for site in than:
        left[site.identity] += site.count
    more = []
    for site in sites:  # two lines of one function may be the same: each takes its share
        if site.count > left[site.identity]:
            more.append(site)
        left[site.identity] = max(0, left[site.identity] - site.count)
    return tuple(more)


def _result(
    marker: GateMarker,
    context: GateContext,
    arm: PreparedArm,
    base: Counts,
    head: Counts,
    percent: float,
) -> GateResult:
    found = difference(base, head, percent)
    against = context.session.base
    assert against is not None
    verdict = VerdictKind.FAIL if found.worse else VerdictKind.PASS
    lines = [f"against {against.name}: " + ("; ".join(found.worse) or "nothing is worse")]
    if found.worse:
        lines += [f"  new here: {site}" for site in found.new]
        lines += [f"  {note}" for note in head.notes if note not in base.notes]
    lines += [f"  better: {sentence}" for sentence in found.better]
    lines += [f"  only in the base: {name}" for name in base.counts if name not in head.counts]
    stack = context.candidate.spec.stack
    other, counted = counted_with(stack, arm.spec.stack)
    lines += [] if other is None else [f"  {other}"]
    return GateResult(
        gate=marker.marker,
        claim=claim_of(marker),
        test=context.test,
        stack=stack.name,
        verdict=verdict,
        reason="\n".join(lines),
        evidence=Evidence.COUNTED,
        blocking=verdict is VerdictKind.FAIL,
        figures={
            "found": "; ".join([_format(base.counts, head.counts), *([other] if other else [])]),
            **counted,
            "against_base": against.about(),
            "base": _plain(base.counts),
            "head": _plain(head.counts),
            "allowed_percent": percent,
            "worse": list(found.worse),
            "better": list(found.better),
            "new_sites": [asdict(site) for site in found.new],
            "gone_sites": [asdict(site) for site in found.gone],
        },
    )


def claim_of(marker: GateMarker) -> str:
    """What a marker claims of the base."""
    name = "max_memory" if isinstance(marker, MaxMemory) else marker.claim
    return f"{name} against base"


def _plain(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {component: dict(inner) for component, inner in counts.items()}


def _format(base: Mapping[str, Mapping[str, int]], head: Mapping[str, Mapping[str, int]]) -> str:
    """``unet: 1 breaks (base 0), 2 graphs (base 1); …``."""
    return "; ".join(
        f"{component}: "
        + ", ".join(
            f"{what} {now} (base {base.get(component, {}).get(what, 0)})"
            for what, now in counts.items()
        )
        for component, counts in head.items()
    )

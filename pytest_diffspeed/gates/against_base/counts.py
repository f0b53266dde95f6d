"""What is counted, against the base: and where it is."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from ...arms.counts import PEAK_BYTES, CountedLine, Counts
from ...arms.probes import Probe
from ...records.verdict import Cause, EvidenceKind, GateResult, Metric, VerdictKind
from ..countable import counted_with
from ..gate import ArmsOfBoth, BaseClaim, Gate, GateContext
from ..marker import GateMarker

if TYPE_CHECKING:
    from ...arms.prepared_arm import PreparedArm


@dataclass(frozen=True)
class BaseProbe:
    """What is counted of an arm and of the base's arm with the same stack; each count may grow by
    ``percent`` before that is worse.
    """

    probe: Probe
    arm: PreparedArm
    args: Mapping[str, Any] = field(default_factory=dict)
    percent: float = 0.0


class CountingGate(Gate):
    """A gate that counts: against a base the counts of both trees are compared."""

    counts: ClassVar[bool] = True

    @abstractmethod
    def base_probe(self, marker: GateMarker, context: GateContext) -> BaseProbe:
        """What to count of both trees.

        Raises:
            UncountableError: this marker, or this stack, cannot be counted in another process.
        """

    def base_claim(self, marker: GateMarker) -> str:
        """What a marker claims of the base; markers with the same claim are checked once."""
        return f"{marker.claim} against base"

    def base_claims(self, markers: Sequence[GateMarker]) -> Sequence[BaseClaim]:
        claims = {self.base_claim(marker): marker for marker in markers}
        return [BaseClaim(marker, claim) for claim, marker in claims.items()]

    def check_against_base(
        self, claim: BaseClaim, context: GateContext, of_both: ArmsOfBoth
    ) -> GateResult:
        asked = self.base_probe(claim.marker, context)
        probe, arm = asked.probe, asked.arm
        with context.session.progress.phase(f"{probe.name} of {arm.spec.stack} against the base"):
            arm.require_unchanged()
            of_base, of_head = of_both(arm)
            head = of_head.probe(probe, **asked.args)
            base = of_base.probe(probe, **asked.args)
        return _result(claim, context, asked, base, head)


@dataclass(frozen=True)
class CountDifference:
    """What changed from the base to this tree; ``worse`` and ``better`` are a sentence each.

    ``new`` are places that the base does not have, or not so often; ``gone`` the other way round.
    """

    worse: tuple[str, ...]
    better: tuple[str, ...]
    new: tuple[CountedLine, ...]
    gone: tuple[CountedLine, ...]


def difference(base: Counts, head: Counts, percent: float = 0.0) -> CountDifference:
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
    return CountDifference(
        tuple(worse), tuple(better), _more(head.sites, base.sites), _more(base.sites, head.sites)
    )


def _more(sites: tuple[CountedLine, ...], than: tuple[CountedLine, ...]) -> tuple[CountedLine, ...]:
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
    claim: BaseClaim, context: GateContext, asked: BaseProbe, base: Counts, head: Counts
) -> GateResult:
    found = difference(base, head, asked.percent)
    against = context.session.base
    assert against is not None
    lines = [f"against {against.name}: " + ("; ".join(found.worse) or "nothing is worse")]
    if found.worse:
        lines += [f"  new here: {site}" for site in found.new]
        lines += [f"  {note}" for note in head.notes if note not in base.notes]
    lines += [f"  better: {sentence}" for sentence in found.better]
    lines += [f"  only in the base: {name}" for name in base.counts if name not in head.counts]
    stack = context.candidate.spec.stack
    other, counted = counted_with(stack, asked.arm.spec.stack)
    lines += [] if other is None else [f"  {other}"]
    return context.result(
        claim.marker,
        VerdictKind.FAIL if found.worse else VerdictKind.PASS,
        reason="\n".join(lines),
        claim=claim.claim,
        evidence=EvidenceKind.COUNTED,
        figures={
            "found": "; ".join([_format(base.counts, head.counts), *([other] if other else [])]),
            **counted,
            "against_base": against.about(),
            "base": _plain(base.counts),
            "head": _plain(head.counts),
            "allowed_percent": asked.percent,
            "worse": list(found.worse),
            "better": list(found.better),
            "new_sites": [asdict(site) for site in found.new],
            "gone_sites": [asdict(site) for site in found.gone],
        },
        metrics=_metrics(found, head.counts),
        cause=_cause(found, against.name) if found.worse else None,
    )


def _cause(found: CountDifference, base: str) -> Cause:
    """The first place that the base does not have: the line that a pull request brought."""
    many = len(found.worse)
    what = f"{found.worse[0]} (base {base})" + (f"; {many - 1} more" if many > 1 else "")
    step = "undo it, or merge it knowingly and the next base has it too"
    if not found.new:
        return Cause("WORSE THAN BASE", what, step)
    first = found.new[0]
    place = f"{first.file}:{first.line}"
    return Cause("WORSE THAN BASE", f"{what}: {first.what}", step, place, first.source or None)


def _metrics(found: CountDifference, head: Mapping[str, Mapping[str, int]]) -> list[Metric]:
    """How many places are new; beside it the counts of this tree, over all components."""
    sums: Counter[str] = Counter()
    for counts in head.values():
        sums.update(counts)
    if set(sums) == {PEAK_BYTES}:  # memory has no places, and how much it is is what matters
        return [Metric(PEAK_BYTES, sums[PEAK_BYTES], "bytes", series=PEAK_BYTES)]
    new = Metric(None, len(found.new), "places", series="new sites")
    return [new, *(Metric(what, count, what) for what, count in sums.items())]


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

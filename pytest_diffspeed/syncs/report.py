"""What was counted: syncs of the first step and of the steady ones, by the causing line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..common.paths import short_path
from ..common.text import plural
from ..simgpu import SyncEvent, SyncKind
from .allowances import Allowance


@dataclass(frozen=True)
class SyncSite:
    """One line of code, and how often it made the CPU wait.

    ``first_step`` and ``steady_steps`` add up to ``count`` with ``outside``: what happened before
    the first step of a call or after its last.
    """

    kind: str
    op: str
    file: str
    line: int
    function: str
    source: str
    count: int
    first_step: int
    steady_steps: int
    outside: int
    allowed: str | None = None

    def __str__(self) -> str:
        text = f"{short_path(self.file)}:{self.line}  {self.kind}  {self.op}  ×{self.count}"
        text += f"  {self.source}" if self.source else ""
        return text if self.allowed is None else f"{text}  [allowed: {self.allowed}]"


@dataclass(frozen=True)
class SteppedScheduler:
    """A scheduler that stepped in the call, and how often.

    ``name`` is the pipeline's own dotted name of it (``scheduler``, ``prior_pipe.scheduler``); a
    copy or another one that the call made goes by its class: ``<EulerDiscreteScheduler>``.
    """

    name: str
    kind: str
    steps: int

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}, {plural(self.steps, 'step')})"


@dataclass(frozen=True)
class SyncReport:
    """Host syncs of ``target`` inside ``scope``.

    ``first_step`` and ``per_step`` (the steps after it, in order) and ``outside`` count syncs that
    are not allowed; ``may_block`` counts pageable ``non_blocking`` copies, which are none of them.
    ``sites`` holds all of these lines, allowed ones and those that may block too.
    ``evidence`` says what counted: ``"simulated GPU …"`` or ``"CUDA …"``; both are counted.
    ``schedulers`` names all that stepped; ``remark`` says what was done in another way than asked.
    """

    target: str
    scope: str
    first_step: int
    per_step: tuple[int, ...]
    outside: int
    may_block: int
    sites: tuple[SyncSite, ...]
    evidence: str
    unused_allowances: tuple[str, ...] = ()
    blind_spots: tuple[str, ...] = ()
    schedulers: tuple[SteppedScheduler, ...] = ()
    remark: str = ""

    @property
    def steps(self) -> int:
        return 1 + len(self.per_step)

    @property
    def total(self) -> int:
        return self.first_step + sum(self.per_step) + self.outside

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for a record."""
        return asdict(self)

    def __repr__(self) -> str:
        return f"<SyncReport {self.summary()}>"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def summary(self) -> str:
        """``StableDiffusionXLPipeline …, scheduler.step: 1 sync in the first step, 0 in …``."""
        steady = _spread(self.per_step)
        first = plural(self.first_step, "sync")
        head = f"{self.target}, {self.scope}: {first} in the first step, {steady}"
        if self.outside:
            head += f", {self.outside} outside the steps"
        if self.may_block:
            head += f"; {self.may_block} {'copy' if self.may_block == 1 else 'copies'} may block"
        return head

    def lines(self) -> list[str]:
        """For a person, worst site first."""
        lines = [f"{self.summary()} (counted, {self.evidence})"]
        lines += [f"  {site}" for site in self.sites]
        lines += [f"  allowed, but not seen any more: {text}" for text in self.unused_allowances]
        lines += [f"  not seen here: {text}" for text in self.blind_spots]
        if len(self.schedulers) > 1:
            lines.append(f"  schedulers that stepped: {', '.join(map(str, self.schedulers))}")
        if self.remark:
            lines.append(f"  {self.remark}")
        return lines


def _spread(per_step: Sequence[int]) -> str:
    if not per_step:
        return "no steady step"
    low, high = min(per_step), max(per_step)
    many = str(low) if low == high else f"{low} to {high}"
    each = "the" if len(per_step) == 1 else f"each of {len(per_step)}"
    return f"{many} in {each} steady {'step' if len(per_step) == 1 else 'steps'}"


@dataclass(frozen=True)
class Located:
    """A sync with the step it belongs to (from 0), or ``None`` outside the steps."""

    event: SyncEvent
    step: int | None


@dataclass(frozen=True)
class Counted:
    """What one call of a target showed: the syncs in the scope, and the steps that there were."""

    located: tuple[Located, ...]
    target: str
    steps: int
    schedulers: tuple[SteppedScheduler, ...] = ()
    remark: str = ""


def build_report(
    counted: Counted,
    *,
    scope: str,
    evidence: str,
    allowances: Sequence[Allowance] = (),
    blind_spots: Sequence[str] = (),
) -> SyncReport:
    """Add up what was located."""
    steps = max(counted.steps, 1)
    per_step = [0] * steps
    outside = may_block = 0
    used: set[Allowance] = set()
    counts: dict[tuple[str, str, str, int], Counter[str]] = {}
    examples: dict[tuple[str, str, str, int], tuple[SyncEvent, str | None]] = {}
    for item in counted.located:
        event, site = item.event, item.event.site
        matching = [allowance for allowance in allowances if allowance.matches(event)]
        used.update(matching)
        key = (site.file, str(event.kind), event.op, site.line)
        where = "outside" if item.step is None else "first" if item.step == 0 else "steady"
        counts.setdefault(key, Counter())[where] += 1
        allowed = (matching[0].reason or matching[0].where) if matching else None
        examples.setdefault(key, (event, allowed))
        if event.kind is SyncKind.MAY_BLOCK:
            may_block += not matching
        elif not matching:
            if item.step is None:
                outside += 1
            else:
                per_step[min(item.step, steps - 1)] += 1
    sites = []
    for key, count in counts.items():
        event, allowed = examples[key]
        sites.append(
            SyncSite(
                kind=str(event.kind),
                op=event.op,
                file=event.site.file,
                line=event.site.line,
                function=event.site.function,
                source=event.site.source,
                count=count.total(),
                first_step=count["first"],
                steady_steps=count["steady"],
                outside=count["outside"],
                allowed=allowed,
            )
        )
    sites.sort(key=lambda site: (site.allowed is not None, -site.count, site.file, site.line))
    return SyncReport(
        target=counted.target,
        scope=scope,
        first_step=per_step[0],
        per_step=tuple(per_step[1:]),
        outside=outside,
        may_block=may_block,
        sites=tuple(sites),
        evidence=evidence,
        unused_allowances=tuple(str(a) for a in allowances if a not in used),
        blind_spots=tuple(blind_spots),
        schedulers=counted.schedulers,
        remark=counted.remark,
    )

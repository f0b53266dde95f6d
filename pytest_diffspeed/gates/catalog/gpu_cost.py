"""``gpu_cost``: what a pipeline asks of a GPU grows by no more than is allowed, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from ...arms.gpu_cost.order import GpuName
from ...common.amounts import amount
from ...common.errors import nearest
from ...common.text import plural
from ...records.verdict import Axis, Cause, EvidenceKind, GateResult, VerdictKind
from ...techniques.stacks import BASE, Stack
from ..gate import ArmsOfBoth, BaseClaim, Gate, GateContext
from ..gpu_cost_figures import (
    FOLLOWED,
    Unit,
    as_recorded,
    counted_under,
    keep_whole,
    lines_of_failed,
    metrics_of,
)
from ..marker import GateMarker
from ..marker_values import BadValueError, as_device, as_one_of, as_optional_stack
from ..saved_counts import SAVED, UPDATE
from ..saved_gpu_costs import FOLDER, file_of, saved_cost, write_cost

if TYPE_CHECKING:
    from ...arms.gpu_cost.result import GpuCost
    from ...gpucost import CostComparison, FigureChange, KernelChange

Growth = int | str
STEP, CALL = "step", "call"
MOST_LINES = 5
MODELLED = {"hidden": "hidden launches (modelled)", "attention lost": "attention lost (modelled)"}
"""Figures that follow of rules, not of what was written or dispatched, and their names."""


@dataclass(frozen=True)
class GpuCostMarker(GateMarker):
    """Each figure grows by at most its limit; a fall of one pays for no rise of another."""

    signature: ClassVar[str] = (
        'gpu_cost(kernels=0, bytes="1%", flops=0, casts=0, layout=0, opaque=0, breaks=0, '
        'attention=0, h2d=0, d2h=0, hidden=0, gpu="a100", unit="step", over="base", stack=None, '
        "device=None): "
        "what it asks of a GPU, counted without one, grows by at most so much"
    )
    axis: ClassVar[Axis] = Axis.STRUCTURE
    limits: tuple[tuple[str, Growth], ...]
    gpu: str
    unit: str
    over: str
    stack: Stack | None
    device: str | None

    @property
    def claim(self) -> str:
        return f"gpu_cost of a {self.unit} on {self.gpu} over {self.over}"

    @property
    def is_against_base(self) -> bool:
        return self.over == BASE.name

    @classmethod
    def from_arguments(
        cls,
        kernels: Growth = 0,
        bytes: Growth = "1%",
        flops: Growth = 0,
        casts: Growth = 0,
        layout: Growth = 0,
        opaque: Growth = 0,
        breaks: Growth = 0,
        attention: Growth = 0,
        h2d: Growth = 0,
        d2h: Growth = 0,
        hidden: Growth = 0,
        gpu: str = "a100",
        unit: str = STEP,
        over: str = BASE.name,
        stack: str | None = None,
        device: str | None = None,
    ) -> GpuCostMarker:
        given = {
            "kernels": kernels,
            "bytes": bytes,
            "flops": flops,
            "casts": casts,
            "layout": layout,
            "opaque": opaque,
            "breaks": breaks,
            "attention": attention,
            "h2d": h2d,
            "d2h": d2h,
            "hidden": hidden,
        }
        return cls(
            tuple((name, as_growth(name, value)) for name, value in given.items()),
            as_gpu(gpu),
            as_one_of("unit", unit, (STEP, CALL)),
            as_one_of("over", over, (BASE.name, SAVED)),
            as_optional_stack(stack),
            as_device(device),
        )


def as_growth(argument: str, value: object) -> Growth:
    """A whole number of at least zero, or a share such as ``"1%"``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and value.endswith("%"):
        try:
            if 0 <= float(value[:-1]) < 1000:
                return value
        except ValueError:
            pass
    raise BadValueError(
        argument,
        f'must be the growth that is allowed: a whole number such as 0 or a share such as "1%", '
        f"not {value!r}",
    )


NAMED_GPUS: tuple[GpuName, ...] = get_args(GpuName)


def as_gpu(value: object) -> str:
    """A name, or a ``….json`` with the data of another one."""
    if isinstance(value, str) and (value in NAMED_GPUS or value.endswith(".json")):
        return value
    raise BadValueError("gpu", f"does not know {value!r}; {nearest(str(value), NAMED_GPUS)}")


class GpuCostGate(Gate):
    """Counts in worker processes, of the base's tree and of this one, or against a file.

    The arm of this process, with what a test patched in it, is not what is counted.
    """

    markers: ClassVar[tuple[type[GateMarker], ...]] = (GpuCostMarker,)
    counts: ClassVar[bool] = True

    def check(self, marker: GateMarker, context: GateContext) -> GateResult:
        """Of a marker with ``over="saved"``."""
        assert isinstance(marker, GpuCostMarker)
        session, spec = context.session, context.candidate.spec
        file = file_of(session.rootdir, spec, marker.gpu)
        # What is missing is said before minutes are spent.
        saved = None if session.options.save_counts else saved_cost(file, spec)
        found = session.workers.gpu_cost(spec, marker.gpu)
        if saved is None:
            write_cost(file, found)
            saved = found
        renew = f"renew it with {UPDATE}"
        return context.publish(
            judged(marker, context, saved, found, f"{FOLDER}/{file.name}", renew)
        )

    def base_claims(self, markers: Sequence[GateMarker]) -> Sequence[BaseClaim]:
        return [BaseClaim(marker, marker.claim) for marker in markers if marker.is_against_base]

    def check_against_base(
        self, claim: BaseClaim, context: GateContext, of_both: ArmsOfBoth
    ) -> GateResult:
        marker = claim.marker
        assert isinstance(marker, GpuCostMarker)
        against = context.session.base
        assert against is not None
        base, head = context.session.workers.gpu_costs_of_both(context.candidate.spec, marker.gpu)
        renew = "give the base the packages of this environment"
        result = judged(marker, context, base, head, against.name, renew)
        result.figures["against_base"] = against.about()
        return result


def judged(
    marker: GpuCostMarker, context: GateContext, base: GpuCost, head: GpuCost, name: str, renew: str
) -> GateResult:
    """The verdict on ``head`` against ``base``, which is called ``name``."""
    about: dict[str, Any] = {
        "gpu": head.gpu,
        "over": name,
        "limits": dict(marker.limits),
        "not_counted": list(head.not_counted),
    }
    # Of this tree alone, so the history has it whatever it was compared with.
    under, metrics = (
        {"counted_under": counted_under(head)},
        metrics_of(head, per_step=marker.unit == STEP),
    )
    other = _other_key(base, head)
    if other:
        return context.result(
            marker,
            VerdictKind.INCONCLUSIVE,
            f"counted with other versions or settings than {name}, so the figures say nothing: "
            f"{'; '.join(other)}; {renew}",
            evidence=EvidenceKind.COUNTED,
            figures={"found": "counted with another key", "gpu_cost": about, **under},
            metrics=metrics,
            claim=marker.claim,
            cause=Cause("GPU COST", f"another key: {other[0]}", renew),
        )
    compared = list(_units(marker, base, head))
    units = [(unit[0], found) for unit, found in compared]
    worse = [(where, found) for where, found in units if not found.passes]
    unit, found = _shown(compared)
    whole = keep_whole(context, marker.claim, dict(units))
    lines = [
        f"against {name}: " + (_sentences(worse) if worse else "no figure grew beyond its limit")
    ]
    for where, found in worse:
        lines += [f"  {where}, {line}" for line in _kernel_lines(found, whole)]
    lines += _remarks(units, base, head)
    recorded = as_recorded(unit, found, base, head, whole)
    return context.result(
        marker,
        VerdictKind.FAIL if worse else VerdictKind.PASS,
        "\n".join(lines),
        evidence=_evidence(worse),
        figures={"found": _cell((unit[0], found)), "gpu_cost": {**about, **recorded}, **under},
        metrics=metrics,
        claim=marker.claim,
        cause=_cause(worse) if worse else None,
    )


def _other_key(base: GpuCost, head: GpuCost) -> list[str]:
    names = sorted({*base.key, *head.key})
    pairs = [(name, base.key.get(name, "none"), head.key.get(name, "none")) for name in names]
    return [f"{name} {before}, now {now}" for name, before, now in pairs if before != now]


def _shown(compared: Sequence[tuple[Unit, CostComparison]]) -> tuple[Unit, CostComparison]:
    """What a record tells in full: the first that is worse, else the first that differs."""
    worse = [one for one in compared if not one[1].passes]
    other = [one for one in compared if not one[1].same_fingerprint]
    return [*worse, *other, *compared][0]


def _units(
    marker: GpuCostMarker, base: GpuCost, head: GpuCost
) -> Iterator[tuple[Unit, CostComparison]]:
    """What is compared: the call, or each denoising step that is not like one before it."""
    from ...gpucost import CostLimits, compare_costs

    limits = CostLimits(**dict(marker.limits))
    steps = min(base.steps, head.steps) if marker.unit == STEP else 0
    if not steps:
        yield ("the call", None), compare_costs(base.whole, head.whole, limits)
        return
    seen: set[tuple[object, ...]] = set()
    for number in range(steps):
        both = base.step(number), head.step(number)
        marks = tuple((one.fingerprint(), one.graphs, len(one.breaks)) for one in both)
        if marks not in seen:
            seen.add(marks)
            yield (f"step {number + 1}", number), compare_costs(*both, limits)


def _evidence(worse: Sequence[tuple[str, CostComparison]]) -> EvidenceKind:
    """Modelled, if nothing that was counted grew beyond its limit."""
    names = {one.name for _, found in worse for one in found.failed}
    return EvidenceKind.MODELLED if names and names <= set(MODELLED) else EvidenceKind.COUNTED


def _sentences(worse: Sequence[tuple[str, CostComparison]]) -> str:
    return "; ".join(f"{where}: {_grown(one)}" for where, found in worse for one in found.failed)


def _grown(one: FigureChange) -> str:
    """``bytes 28 MB → 31.3 MB (+3.33 MB, 280 kB allowed)``."""
    allowed = amount(one.name, int(one.allowed))
    name = MODELLED.get(one.name, one.name)
    return (
        f"{name} {amount(one.name, one.base)} → {amount(one.name, one.head)} "
        f"(+{amount(one.name, one.growth)}, {allowed} allowed)"
    )


def _kernel_lines(found: CostComparison, whole: str | None) -> Iterator[str]:
    where = "the HTML report and the records have them" if whole is None else f"all are in {whole}"
    for sign, changes in (("+", found.more), ("-", found.less)):
        for one in changes[:MOST_LINES]:
            yield f"{sign}{one.number} {_kernel(one)}"
        if len(changes) > MOST_LINES:
            yield f"{sign} {plural(len(changes) - MOST_LINES, 'more kind')} of kernels; {where}"
    for told in found.new_breaks[:MOST_LINES]:
        yield f"+1 graph break: {told}"
    names = {one.name.partition(".")[0] for one in found.failed}
    of_both = []
    if names & {"bytes", "flops"}:
        of_both.append(("", "heavier", found.heavier))
    if "hidden" in names:
        of_both.append(("+", "hidden around", found.more_hidden))
    for sign, word, changes in of_both:
        for one in changes[:MOST_LINES]:
            yield f"{sign}{one.number} {word} {_kernel(one)}"
        if len(changes) > MOST_LINES:
            more = plural(len(changes) - MOST_LINES, "more kind")
            yield f"{sign} {word} {more} of kernels; {where}".lstrip()


def _kernel(one: KernelChange) -> str:
    """``conv convolution 2×64×32×32 at models/resnet.py:341``."""
    shape = "×".join(map(str, one.shape))
    at = f" at {', '.join(one.lines[:3])}" if one.lines else ""
    types = "".join(f" {found}" for found in one.types)
    return f"{one.kind} {one.name} {shape}{types}{at}"


def _remarks(
    units: Sequence[tuple[str, CostComparison]], base: GpuCost, head: GpuCost
) -> Iterator[str]:
    for where, found in units:
        if found.improved:
            fell = ", ".join(
                f"{one.name} {amount(one.name, one.base)} → {amount(one.name, one.head)}"
                for one in found.improved
            )
            yield f"  {where}, less, which pays for nothing else: {fell}"
        if found.differs_only_by_hash:
            yield f"  {where}: other kernels, and no figure differs"
    if base.steps != head.steps:
        yield f"  {head.steps} steps, {base.steps} before: only those that both have are compared"
    yield from (f"  {note}" for note in head.notes)
    yield from (f"  {one.component}: {one.depth}" for one in head.calls if one.depth)


def _cell(unit: tuple[str, CostComparison]) -> str:
    where, found = unit
    figures = {one.name: one for one in found.figures}
    moved = [one.name for one in found.figures if one.growth]
    told = []
    for name in dict.fromkeys((*FOLLOWED, *moved)):
        base, head = (amount(name, value) for value in (figures[name].base, figures[name].head))
        told.append(f"{name} {base} → {head}" if name in moved else f"{name} {head}")
    return f"{where}: {', '.join(told)}" + ("" if moved else "; no figure moved")


def _cause(worse: Sequence[tuple[str, CostComparison]]) -> Cause:
    where, found = worse[0]
    one = found.failed[0]
    more = sum(len(other.failed) for _, other in worse) - 1
    what = f"{where}: {_grown(one)}" + (f"; {more} more" if more else "")
    place = next(iter(lines_of_failed(found)), None)
    step = f"undo it, or allow it: gpu_cost({one.name.partition('.')[0].split()[0]}=…)"
    return Cause("GPU COST", what, step, place)


GATES = (GpuCostGate(),)

"""A GPU cost as text for a terminal, at most 100 columns wide."""

from __future__ import annotations

import linecache
import os
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ...common.amounts import amount
from ...common.text import plural, shortened

if TYPE_CHECKING:
    from ...gpucost import Cost, CostComparison, KernelChange
    from .calls import CountedCalls

WIDTH = 100
_LABEL = 24
_PLACE = 52
_VERSIONS = ("torch", "triton", "diffusers")
_BACKENDS = ("flash", "cudnn", "efficient", "other")


@dataclass(frozen=True)
class _Column:
    """What runs in one call of the pipeline, or in one step of it."""

    head: str
    calls: str
    cost: Cost


class CountedCost(Protocol):
    """What is written about: a :class:`~.result.GpuCost`, which says it by its ``str()``."""

    @property
    def source(self) -> str: ...
    @property
    def stack(self) -> str: ...
    @property
    def gpu(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def calls(self) -> tuple[CountedCalls, ...]: ...
    @property
    def key(self) -> Mapping[str, str]: ...
    @property
    def not_counted(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def took_s(self) -> float: ...
    @property
    def peak_bytes(self) -> int: ...
    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def outside(self) -> Cost: ...
    @property
    def whole(self) -> Cost: ...
    def of(self, component: str) -> Cost: ...
    def step(self, number: int) -> Cost: ...


def head_line(cost: CountedCost) -> str:
    """What was counted, of what, in one line."""
    return f"{cost.source} with {cost.stack} on {cost.gpu}: one call, {_steps(cost)}"


def table_lines(cost: CountedCost, *, most: int = 10) -> list[str]:
    """The figures of each component, and the lines that ask for most."""
    lines = [head_line(cost)]
    for columns in _fitting(list(_columns(cost))):
        lines += ["", *_table(columns)]
    unit, name = unit_of(cost)
    lines += ["", *_costliest(unit, name, most), "", *_about(cost)]
    return lines


def difference_lines(base: CountedCost, head: CountedCost, *, most: int = 10) -> list[str]:
    """What changes from ``base`` to ``head``: figures, then kernels with their lines."""
    from ...gpucost import compare_costs

    lines = [f"from {base.stack} to {head.stack}"]
    pairs = []
    steps = base.steps, head.steps
    if all(steps):
        name = f"step {base.steps}" if steps[0] == steps[1] else "the last step"
        pairs.append((name, unit_of(base)[0], unit_of(head)[0]))
    pairs.append(("outside of the steps", base.outside, head.outside))
    if steps[0] != steps[1]:
        lines[0] += f": {_steps(base)} before, {_steps(head)} after"
        pairs.append(("the call", base.whole, head.whole))
    for name, before, after in pairs:
        lines += ["", *_changes(name, before, after, compare_costs(before, after), most)]
    return lines


def bound_lines(cost: CountedCost, gpu: str, claimed_s: float | None = None) -> list[str]:
    """The fastest that is possible on ``gpu``, as the user named it; and whether a claim can be.

    Raises:
        GpuCostError: the GPU has no products of a type that was counted.
    """
    from ...gpucost import fastest_possible, named_gpu

    unit, name = unit_of(cost)
    parts = {name: unit, "the call": cost.whole}
    lines = [f"at 100 % of the peaks of {cost.gpu}, which nothing reaches (modelled):"]
    bounds = {what: fastest_possible(part, named_gpu(gpu)) for what, part in parts.items()}
    for what, bound in bounds.items():
        lines.append(
            f"  {what}: at least {seconds(bound.seconds)} "
            f"(products {seconds(bound.compute_s)}, memory {seconds(bound.memory_s)})"
        )
    if claimed_s is not None:
        share = bounds["the call"].share_of(claimed_s)
        word = "impossible" if share > 1 else "possible by this bound"
        lines.append(f"  a call in {claimed_s:g} s needs {share:.0%} of the peaks: {word}")
    return lines


def seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _steps(cost: CountedCost) -> str:
    return plural(cost.steps, "step") if cost.steps else "no denoising steps"


def unit_of(cost: CountedCost) -> tuple[Cost, str]:
    """The last step, which is a steady one; without steps, the whole call."""
    if cost.steps:
        return cost.step(cost.steps - 1), f"step {cost.steps}"
    return cost.whole, "the call"


def _columns(cost: CountedCost) -> Iterator[_Column]:
    from ...gpucost import Cost

    for name in cost.components:
        own = [one for one in cost.calls if one.component == name]
        how = own[0].how
        if not any(one.steps for one in own):
            number = sum(one.calls for one in own)
            yield _Column(name, f"{number} × {how}", cost.of(name))
            continue
        by_step: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for step in range(cost.steps):
            made = tuple((at, n) for at, one in enumerate(own) if (n := one.steps.count(step)))
            if made:
                by_step.setdefault(made, []).append(step)
        for made, steps in by_step.items():
            total = sum((own[at].cost.times(n) for at, n in made), Cost())
            calls = sum(n for _, n in made)
            in_all = "a step" if len(steps) == cost.steps else f"step {_ranges(steps)}"
            yield _Column(f"{name}, {in_all}", f"{calls} × {how}", total)
        after = [one for one in own if not one.steps]
        if after:
            total = sum((one.cost.times(one.calls) for one in after), Cost())
            calls = sum(one.calls for one in after)
            yield _Column(f"{name}, after the steps", f"{calls} × {how}", total)


def _ranges(steps: Sequence[int]) -> str:
    """``1–3, 7`` of the numbers 0, 1, 2 and 6: people count steps from 1."""
    found: list[list[int]] = []
    for step in steps:
        if found and found[-1][-1] == step - 1:
            found[-1].append(step)
        else:
            found.append([step])
    some = [f"{r[0] + 1}–{r[-1] + 1}" if len(r) > 1 else str(r[0] + 1) for r in found]
    return ", ".join(some[:3]) + (", …" if len(some) > 3 else "")


def _fitting(columns: Sequence[_Column]) -> Iterator[list[_Column]]:
    """As many columns beside each other as fit."""
    row: list[_Column] = []
    for column in columns:
        if row and _LABEL + sum(_width(one) for one in (*row, column)) > WIDTH:
            yield row
            row = []
        row.append(column)
    yield row


def _width(column: _Column) -> int:
    return 2 + max(len(column.head), len(column.calls), 9)


def _table(columns: Sequence[_Column]) -> list[str]:
    figures = [column.cost.figures() for column in columns]
    rows: list[tuple[str, list[str]]] = [
        ("", [column.head for column in columns]),
        ("calls", [column.calls for column in columns]),
    ]
    for label, name in _rows(figures):
        rows.append((label, [amount(name, of[name]) if of[name] else "–" for of in figures]))
    return [
        f"{label:<{_LABEL}}"
        + "".join(f"{cell:>{_width(c)}}" for c, cell in zip(columns, cells, strict=True))
        for label, cells in rows
    ]


def _rows(figures: Sequence[Mapping[str, int]]) -> Iterator[tuple[str, str]]:
    """Label and name of what is not zero everywhere."""
    names = figures[0]
    kinds = [name for name in names if name.startswith("kind.") and name[5:] not in ("h2d", "d2h")]
    units = [name for name in names if name.startswith("flops.")]
    found = [("kernels", "kernels")]
    for name in kinds:
        found.append((f"  {name.removeprefix('kind.').replace('_', ' ')}", name))
        if name == "kind.attention":
            found += [(f"    by {b} (modelled)", f"attention.{b}") for b in _BACKENDS]
    found += [("bytes", "bytes"), ("FLOPs", "flops")]
    found += [(f"  {name.removeprefix('flops.')}", name) for name in units]
    found += [
        ("copies from the host", "h2d"),
        ("copies to the host", "d2h"),
        ("graphs", "graphs"),
        ("graph breaks", "breaks"),
        ("hidden (modelled)", "hidden"),
    ]
    for label, name in found:
        if any(of[name] for of in figures):
            yield label, name


def _costliest(cost: Cost, name: str, most: int) -> list[str]:
    figures = cost.figures()
    by_line: dict[str, list[int]] = {}
    for kernel in cost.kernels:
        row = by_line.setdefault(kernel.site, [0, 0, 0])
        row[0] += kernel.bytes
        row[1] += kernel.flops
        row[2] += 1
    shares = {
        site: (_share(row[0], figures["bytes"]), _share(row[1], figures["flops"]), row[2])
        for site, row in by_line.items()
    }
    first = sorted(shares, key=lambda site: (-max(shares[site][:2]), site))[:most]
    lines = [
        f"the costliest lines of {name}, by their share of bytes or FLOPs "
        f"({len(first)} of {len(shares)})",
        "  bytes   FLOPs  kernels  line",
    ]
    for site in first:
        of_bytes, of_flops, kernels = shares[site]
        lines.append(f"{of_bytes:6.1%}  {of_flops:6.1%}  {kernels:>7,}  {_placed(site, 27)}")
    return lines


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _placed(site: str, indent: int) -> str:
    """The line, and its text where there is room."""
    place = site or "no line of the user's or of diffusers"
    if len(place) > _PLACE:
        place = f"…{place[-_PLACE + 1 :]}"
    source = _source(site)
    return shortened(f"{place}  {source}", WIDTH - indent).rstrip()


def _source(site: str) -> str:
    file, _, line = site.rpartition(":")
    if not line.isdigit():
        return ""
    for folder in (os.getcwd(), sysconfig.get_paths()["purelib"]):
        path = Path(folder, file)
        if path.is_file():
            return linecache.getline(str(path), int(line)).strip()
    return ""


def _about(cost: CountedCost) -> list[str]:
    lines = [f"{one.component}: {one.depth}" for one in cost.calls if one.depth]
    lines += [*cost.notes, *cost.not_counted]
    lines.append(
        f"counted in {cost.took_s:.0f} s with {amount('bytes', cost.peak_bytes)} of memory "
        f"(measured), with {', '.join(f'{n} {cost.key[n]}' for n in _VERSIONS)}"
    )
    return [line for text in lines for line in _wrapped(text)]


def _changes(name: str, base: Cost, head: Cost, found: CostComparison, most: int) -> list[str]:
    moved = [one for one in found.figures if one.growth]
    if not moved:
        same = "the same kernels" if found.same_fingerprint else "other kernels, the same figures"
        return [f"{name}: {same}"]
    lines = [f"{name:<{_LABEL}}{'before':>12}{'after':>12}{'change':>12}"]
    for one in moved:
        sign = "+" if one.growth > 0 else "-"
        change = f"{sign}{amount(one.name, abs(one.growth))}"
        cells = (amount(one.name, one.base), amount(one.name, one.head), change)
        lines.append(f"  {one.name:<{_LABEL - 2}}" + "".join(f"{cell:>12}" for cell in cells))
    more = _kernels("more kernels, those with most bytes first", "+", found.more, most)
    fewer = _kernels("fewer kernels, those with most bytes first", "-", found.less, most)
    heavier = _kernels("the same kernels, which move or multiply more", "", found.heavier, most)
    hidden = _kernels("more launches that libraries add around", "+", found.more_hidden, most)
    breaks = [shortened(f"  +1 graph break: {told}", WIDTH) for told in found.new_breaks[:most]]
    return [*lines, *more, *fewer, *heavier, *hidden, *breaks]


def _kernels(head: str, sign: str, changes: Sequence[KernelChange], most: int) -> Iterator[str]:
    if not changes:
        return
    left = len(changes) - most
    yield f"  {head}" + (f" ({plural(left, 'kind')} not shown)" if left > 0 else "")
    for one in changes[:most]:
        shape = " ".join(("×".join(map(str, one.shape)), *one.types))
        what = shortened(f"{one.kind} {one.name}", 48 - len(shape))
        number, size = f"{sign}{one.number:,}", amount("bytes", one.bytes)
        yield (
            f"  {number:<5} {f'{what} {shape}':<49} {size:>8}  {_first_of(one.lines, WIDTH - 68)}"
        ).rstrip()


def _first_of(lines: Sequence[str], room: int) -> str:
    if not lines:
        return ""
    more = f" and {len(lines) - 1} more" if len(lines) > 1 else ""
    first = lines[0]
    room -= len(more)
    return (first if len(first) <= room else f"…{first[len(first) - room + 1 :]}") + more


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, WIDTH, subsequent_indent="  ")

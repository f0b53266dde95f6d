"""A GPU cost as the page shows it: bars of each component by kind, and the kernels that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ...common.amounts import amount
from ...common.text import plural
from ..loose import count, mapping, mappings, sequence, word, words
from .base_commit import DifferenceView

MOST_COMPONENTS = 24
SHOWN = 12
"""Rows of a table of kernels; the others are folded below it."""
WIDTH = 1000
"""Of the longest bar, in the units of its picture."""
KINDS = MappingProxyType(
    {
        "gemm": "gemm",
        "conv": "conv",
        "attention": "attention",
        "triton_template": "Triton template",
        "triton_pointwise": "Triton pointwise",
        "triton_reduction": "Triton reduction",
        "pointwise": "pointwise",
        "reduction": "reduction",
        "copy": "copy",
        "cast": "cast",
        "layout": "layout",
        "opaque": "opaque",
    }
)
"""What a kernel does, in the order of a bar: products, arithmetic, what only moves; as the library
names it, and as people read it."""
TYPES = MappingProxyType({one: one for one in ("f64", "f32", "tf32", "b16", "i8", "f8")})
"""What a product is computed in, the costliest first."""
OTHER = "other"
_PARTS = (
    ("kernels", "Kernels by kind", KINDS),
    ("bytes", "Bytes by kind of kernel", KINDS),
    ("flops", "FLOPs by type", TYPES),
)
_TABLES = (
    ("new", "New kernels"),
    ("gone", "Kernels that are gone"),
    ("heavier", "Kernels that move or multiply more than before"),
    ("hidden", "Kernels around which libraries launch more, by these launches, modelled"),
)


@dataclass(frozen=True)
class Segment:
    """``colour`` is a class of the style, ``x`` and ``width`` of :data:`WIDTH`."""

    colour: str
    x: int
    width: int
    title: str


@dataclass(frozen=True)
class Bar:
    """One component of one side.  ``words`` says what the segments do."""

    component: str
    side: str
    total: str
    segments: tuple[Segment, ...]
    words: str


@dataclass(frozen=True)
class Bars:
    """One figure of all components, on one scale; ``legend`` has colours with their words."""

    title: str
    legend: tuple[tuple[str, str], ...]
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class KernelRow:
    """Kernels of one kind, name and shape that one side has more of; ``amount`` are their bytes, or
    all by which they are heavier.
    """

    number: str
    kind: str
    name: str
    shape: str
    amount: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Kernels:
    """``left_out`` says how many more there are, ``column`` what their ``amount`` is."""

    title: str
    column: str
    rows: tuple[KernelRow, ...]
    left_out: str


@dataclass(frozen=True)
class CostView:
    """``moved`` are the figures that differ, ``steady`` how many do not; ``whole`` is the file with
    all kernels that differ, where the record has not all of them.
    """

    unit: str
    bars: tuple[Bars, ...]
    numbers: tuple[tuple[str, str, str, str, str], ...]
    kernels: tuple[Kernels, ...]
    moved: tuple[DifferenceView, ...]
    steady: int
    aside: str
    whole: str


def cost_view(figures: Mapping[str, Any]) -> CostView | None:
    """``None`` where nothing was compared."""
    cost = mapping(figures.get("gpu_cost"))
    components = mappings(cost.get("components"))
    unit = word(cost.get("unit"))
    if unit is None or not components:
        return None
    shown = components[:MOST_COMPONENTS]
    aside = [word(one.get("component")) or "" for one in shown if one.get("judged") is False]
    notes = [f"{', '.join(aside)}: shown, and not in what was compared."] if aside else []
    if len(components) > len(shown):
        notes.append(f"{plural(len(components) - len(shown), 'more component')} in the records.")
    moved, steady = _moved(mapping(cost.get("figures")))
    return CostView(
        unit=unit,
        bars=tuple(filter(None, (_bars(shown, *part) for part in _PARTS))),
        numbers=tuple(_numbers(shown)),
        kernels=tuple(_kernels(cost)),
        moved=moved,
        steady=steady,
        aside=" ".join(notes),
        whole=word(cost.get("whole")) or "",
    )


def _bars(
    components: Sequence[Mapping[str, Any]], part: str, title: str, names: Mapping[str, str]
) -> Bars | None:
    found = [
        (_place(one), side, sums)
        for one in components
        for side, sums in _sides(one, part, names)
        if sums
    ]
    longest = max((sum(sums.values()) for _, _, sums in found), default=0)
    if not longest:
        return None
    seen = {name for _, _, sums in found for name in sums}
    return Bars(
        title,
        tuple((colour(n), names.get(n, OTHER)) for n in (*names, OTHER) if n in seen),
        tuple(_bar(place, side, sums, part, names, longest) for place, side, sums in found),
    )


def colour(name: str) -> str:
    """The class of a kind or type."""
    return f"c-{name}"


def _sides(
    component: Mapping[str, Any], part: str, names: Mapping[str, str]
) -> list[tuple[str, dict[str, int]]]:
    """Sums of base and head in the order of ``names``; of one where they are the same."""
    base, head = (
        _known(mapping(mapping(component.get(side)).get(part)), names) for side in ("base", "head")
    )
    if base == head:
        return [("both", head)]
    return [("base", base), ("head", head)]


def _known(sums: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, int]:
    """What is counted; kinds of a later version together as :data:`OTHER`."""
    found: dict[str, int] = {}
    for name, value in sums.items():
        number = count(value)
        if number is not None and 0 < number < 2**63:
            key = name if name in names else OTHER
            found[key] = found.get(key, 0) + number
    return {name: found[name] for name in (*names, OTHER) if name in found}


def _bar(
    place: str,
    side: str,
    sums: Mapping[str, int],
    part: str,
    names: Mapping[str, str],
    longest: int,
) -> Bar:
    segments, told, before = [], [], 0
    for name, value in sums.items():
        words_ = f"{names.get(name, OTHER)} {amount(part, value)}"
        start, end = (round(WIDTH * at / longest) for at in (before, before + value))
        before += value
        told.append(words_)
        if end > start:
            segments.append(Segment(colour(name), start, end - start, words_))
    total = amount(part, before)
    words_ = f"{place}, {side}: {total}; {', '.join(told)}"
    return Bar(place, side, total, tuple(segments), words_)


def _place(component: Mapping[str, Any]) -> str:
    name, where = word(component.get("component")) or "", word(component.get("in"))
    how = word(component.get("how"))
    return ", ".join(filter(None, (name, where, how)))


def _numbers(
    components: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str, str, str, str, str]]:
    """Component, figure, kind or type, base, head: what the bars show, in figures."""
    for one in components:
        for part, title, names in _PARTS:
            sides = dict(_sides(one, part, names))
            base, head = sides.get("base", sides.get("both", {})), sides.get("head")
            head = base if head is None else head
            for name in dict.fromkeys((*base, *head)):
                values = (
                    amount(part, side[name]) if name in side else "–" for side in (base, head)
                )
                before, now = values
                yield _place(one), title.split()[0], names.get(name, OTHER), before, now


def _moved(figures: Mapping[str, Any]) -> tuple[tuple[DifferenceView, ...], int]:
    rows, steady = [], 0
    for name, both in figures.items():
        base, head = (count(mapping(both).get(side)) for side in ("base", "head"))
        if base is None or head is None:
            continue
        if base == head:
            steady += 1
            continue
        sign = "+" if head > base else "-"
        change = f"{sign}{amount(name, abs(head - base))}"
        rows.append(DifferenceView(name, amount(name, base), amount(name, head), change))
    return tuple(rows), steady


def _kernels(cost: Mapping[str, Any]) -> Iterator[Kernels]:
    for side, title in _TABLES:
        is_heavier = side == "heavier"
        told = _heavier_by if is_heavier else _bytes
        rows = tuple(_row(one, told(one)) for one in mappings(cost.get(side)))
        more = count(cost.get(f"{side}_left_out")) or 0
        if rows:
            left_out = f"{plural(more, 'more kind')} not in the records." if more else ""
            many = plural(len(rows) + more, "kind")
            column = "by" if is_heavier else "bytes"
            yield Kernels(f"{title} ({many}, the most first)", column, rows, left_out)


def _bytes(one: Mapping[str, Any]) -> str:
    return amount("bytes", count(one.get("bytes")) or 0)


def _heavier_by(one: Mapping[str, Any]) -> str:
    """A costlier type, more products, more bytes: only what there is of it."""
    flops, nbytes = (count(one.get(name)) or 0 for name in ("flops", "bytes"))
    more = [f"+{amount('flops', flops)} FLOPs"] if flops > 0 else []
    more += [f"+{amount('bytes', nbytes)}"] if nbytes > 0 else []
    return ", ".join([*words(one.get("types")), *more])


def _row(one: Mapping[str, Any], told: str) -> KernelRow:
    lines = words(one.get("lines"))
    more = count(one.get("lines_left_out")) or 0
    shape = [str(size) for part in sequence(one.get("shape")) if (size := count(part)) is not None]
    return KernelRow(
        number=f"{count(one.get('number')) or 0:,}",
        kind=KINDS.get(kind := word(one.get("kind")) or "", kind),
        name=word(one.get("name")) or "",
        shape="×".join(shape),
        amount=told,
        lines=(*lines, *([f"and {plural(more, 'more line')}"] if more else [])),
    )

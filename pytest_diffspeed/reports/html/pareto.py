"""What is free and what costs pictures: each row's ratio against its worst image, laid out as SVG.

Everything is placed here, so the chart needs no script; colours are the style sheet's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..ladder import worst_image
from ..loose import mapping, number
from ..units import ratio as ratio_text
from .text import name

WIDTH, HEIGHT = 720, 340
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 16, 40
SAME_DB = 60.0
"""Half a level of 8 bits everywhere is 54 dB: from here on no file of the picture shows a
difference, and such rows stand in one line at the top."""
LEAST_DB = 6.0
"""Of the height of the axis, so that small differences do not look like large ones."""
_CHARACTER, _LINE = 7.3, 14.0
"""At most the width of a letter of a label (bold, on the front) and the height of a line, in the
units of the picture."""
_MOST_LETTERS = 34


@dataclass(frozen=True)
class Label:
    """Where the words stand; ``end`` says that they end there.  ``leader``: a line leads there."""

    text: str
    x: float
    y: float
    end: bool
    leader: bool


@dataclass(frozen=True)
class PlacedRow:
    """A row; ``on_front``: no other row is as fast and nearer, or as near and faster."""

    stack: str
    ratio: float
    worst: str
    x: float
    y: float
    on_front: bool
    label: Label | None

    @property
    def title(self) -> str:
        return f"{self.stack}: {ratio_text(self.ratio)}, {self.worst}"


@dataclass(frozen=True)
class Pareto:
    """``front`` is a path, ticks are a place and its words; ``summary`` is the chart in words."""

    points: tuple[PlacedRow, ...]
    front: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    unit: str
    summary: str


@dataclass(frozen=True)
class _Row:
    """``told_ratio`` is 1 where nobody can tell the row from fp32."""

    stack: str
    ratio: float
    told_ratio: float
    worst_db: float
    worst: str


def pareto(records: Sequence[Mapping[str, Any]]) -> Pareto | None:
    """The chart of a ladder's rows that were measured and drawn; ``None`` of fewer than two."""
    rows = [row for row in map(_row, records) if row is not None]
    if len(rows) < 2:
        return None
    rows.insert(0, _Row("fp32", 1.0, 1.0, SAME_DB, "identical"))
    front = _front(rows)
    to_x, x_ticks = _across([row.ratio for row in rows])
    to_y, y_ticks = _up([row.worst_db for row in rows])
    places = [(to_x(row.ratio), to_y(row.worst_db)) for row in rows]
    order = sorted(range(len(rows)), key=lambda at: (rows[at] not in front, places[at][1]))
    labels = _labelled([(name(rows[at].stack), places[at]) for at in order], places)
    by_row = dict(zip(order, labels, strict=True))
    points = tuple(
        PlacedRow(
            row.stack,
            row.ratio,
            row.worst,
            *places[at],
            row in front,
            by_row[at],
        )
        for at, row in enumerate(rows)
    )
    drawn = [mapping(record.get("images")) for record in records if "images" in record]
    sound = drawn[0].get("output") == "audio"
    return Pareto(
        points,
        _path([(to_x(row.ratio), to_y(row.worst_db)) for row in front]),
        x_ticks,
        y_ticks,
        "SNR of the worst sound, dB" if sound else "PSNR of the worst image, dB",
        _summary(front, len(rows)),
    )


def _row(record: Mapping[str, Any]) -> _Row | None:
    over = mapping(record.get("over_baseline"))
    images = mapping(record.get("images"))
    ratio, worst = number(over.get("ratio")), number(images.get("worst"))
    if ratio is None or ratio <= 0 or worst is None or "broken" in images:
        return None
    told = 1.0 if over.get("verdict") == "INCONCLUSIVE" else ratio
    return _Row(str(record.get("stack")), ratio, told, min(worst, SAME_DB), worst_image(record))


def _front(rows: Sequence[_Row]) -> list[_Row]:
    """From the nearest to the fastest: those that no other row beats in one and equals in both."""
    found: list[_Row] = []
    for row in sorted(rows, key=lambda row: (-row.told_ratio, -row.worst_db)):
        if not found or row.worst_db > found[-1].worst_db:
            found.append(row)
    return found[::-1]


def _summary(front: Sequence[_Row], many: int) -> str:
    each = "; ".join(f"{name(row.stack)} {ratio_text(row.ratio)}, {row.worst}" for row in front)
    behind = many - len(front)
    rest = f" {behind} more {'is' if behind == 1 else 'are'} behind these." if behind else ""
    return f"No row is faster and nearer to the images of fp32 than: {each}.{rest}"


def _across(ratios: Sequence[float]) -> tuple[Any, tuple[tuple[float, str], ...]]:
    """The place of a ratio, on a logarithmic axis, and its ticks."""
    low, high = math.log(min(ratios)), math.log(max(ratios))
    room = max(0.08 * (high - low), 0.03)
    low, high = low - room, high + room

    def place(ratio: float) -> float:
        return LEFT + (math.log(ratio) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    step = _step(math.exp(high) - math.exp(low), 6)
    first = math.ceil(math.exp(low) / step)
    values = [at * step for at in range(first, first + 40) if at * step <= math.exp(high)]
    # Those of a wide logarithmic axis come closer and closer.
    ticks: list[tuple[float, str]] = []
    for value in values:
        if value > 0 and (not ticks or place(value) - ticks[-1][0] > 44):
            ticks.append((place(value), f"{float(f'{value:.3g}'):g}×"))
    return place, tuple(ticks)


def _up(decibels: Sequence[float]) -> tuple[Any, tuple[tuple[float, str], ...]]:
    """The place of a PSNR, more above, and its ticks."""
    high = SAME_DB
    low = min(min(decibels), high - LEAST_DB)
    low -= 0.06 * (high - low)

    def place(value: float) -> float:
        return TOP + _LINE + (high - value) / (high - low) * (HEIGHT - TOP - _LINE - BOTTOM)

    step = _step(high - low, 5)
    first = math.ceil(low / step)
    values = [at * step for at in range(first, first + 40) if at * step < high - step / 2]
    return place, (*((place(v), f"{v:g}") for v in values), (place(high), f"≥ {high:g}"))


def _step(span: float, many: int) -> float:
    """A round distance of about ``many`` ticks."""
    rough = span / many
    power = 10.0 ** math.floor(math.log10(rough))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough * 0.999)


def _path(front: Sequence[tuple[float, float]]) -> str:
    """The border of what the front leaves behind: stairs down to the right."""
    (_, y), *_ = front
    steps = [f"M{LEFT} {y:.1f}"]
    for x, y in front:
        steps += [f"V{y:.1f}", f"H{x:.1f}"]
    return " ".join([*steps, f"V{HEIGHT - BOTTOM}"])


def _labelled(
    wanted: Iterable[tuple[str, tuple[float, float]]], points: Sequence[tuple[float, float]]
) -> list[Label | None]:
    """Labels beside their points, the first ones first, where nothing else stands; ``None``: there
    was no room, and the table has the row.
    """
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    found: list[Label | None] = []
    for text, (x, y) in wanted:
        label = next(
            (
                label
                for label in _places(_short(text), x, y)
                if not any(_meet(_box(label), box) for box in taken)
            ),
            None,
        )
        if label is not None:
            taken.append(_box(label))
        found.append(label)
    return found


def _places(text: str, x: float, y: float) -> Iterable[Label]:
    for down in (0, -1, 1, 2, -2, 3, 4, 5, 6, 7, 8):
        for end in (False, True):
            place = Label(
                text, x + (-9 if end else 9), y + 4 + down * _LINE, end, leader=abs(down) > 1
            )
            left, top, right, bottom = _box(place)
            if left >= LEFT and right <= WIDTH and top >= 0 and bottom <= HEIGHT - BOTTOM:
                yield place


def _box(label: Label) -> tuple[float, float, float, float]:
    wide = len(label.text) * _CHARACTER
    left = label.x - wide if label.end else label.x
    return left, label.y - 0.8 * _LINE, left + wide, label.y + 0.2 * _LINE


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]


def _short(text: str) -> str:
    """The middle of a long name is what can be missed: it ends with what was added last."""
    if len(text) <= _MOST_LETTERS:
        return text
    kept = _MOST_LETTERS - 1
    return f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"

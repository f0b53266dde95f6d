"""The ladder as a table: a row for each stack, and for what could not be run the reason.

stack          over fp32             over the step before         a call  first call  break-even
bf16           1.41× [1.38, 1.44]                                 0.31 s  0.4 s       0 images
bf16+compile   1.97× [1.92, 2.01]    1.40× [1.36, 1.43]           0.22 s  61 s        276 images
tf32           not run: tf32 on AMD EPYC, 2 cores: …
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..common.text import plural
from .loose import mapping, number, words
from .terminal import align, interval
from .units import bytes_of

NOISE = "≈"
"""Marks a ratio that cannot be told from 1."""


IDENTICAL_DB = 100.0
"""What identical images count as: :data:`..similarity.presets.HIGHEST_DB`."""
COMPOSED = (
    "~ composed of the parts below, a denoiser without guidance and scheduler: "
    "--diffspeed-ladder=full times whole calls"
)


def ladder_rows(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines of the ladder in the order of ``rows``, footnotes and proofs below it."""
    if not rows:
        return []
    has_memory = any("peak_bytes" in row for row in rows)
    has_images = any("images" in row for row in rows)
    measured = [row for row in rows if "over_baseline" in row]
    heads = ["stack", "over fp32", "over the step before", "a call", "first call", "break-even"]
    if has_images:
        heads.insert(2, "worst image")
    width = max(len(str(row["stack"])) for row in rows)
    table = [[*heads, "peak memory"] if has_memory else heads]
    lines: list[str] = []
    cells: Iterator[str] = iter(())
    if measured:
        cells_of = (_cells(row, has_memory, has_images) for row in measured)
        head, *aligned = align([*table, *cells_of])
        lines, cells = [head], iter(aligned)
    for row in rows:
        if "over_baseline" in row:
            lines.append(next(cells))
            if "reason" in row:
                lines.append(f"{'':<{width}}  then failed: {row['reason']}")
            if "why_whole_calls" in row:
                lines.append(f"{'':<{width}}  whole calls: {row['why_whole_calls']}")
            if "without_previous" in row:
                lines.append(f"{'':<{width}}  no step before: {row['without_previous']}")
        else:
            lines.append(f"{row['stack']:<{width}}  not run: {row.get('reason', 'stopped')}")
    ratios = [
        _ratio_of(row, name) for row in measured for name in ("over_baseline", "over_previous")
    ]
    if any(ratio is not None and _is_noise(ratio) for ratio in ratios):
        lines.append(f"{NOISE} cannot be told from 1 with this many pairs")
    if any(row.get("composed") for row in measured):
        lines.append(COMPOSED)
    lines += about_images(rows)
    slow = dict.fromkeys(sentence for row in rows for sentence in words(row.get("known_slow")))
    lines += [f"known to be slow: {sentence}" for sentence in slow]
    if any("stopped" in row for row in rows):
        lines.append("stopped before the end: a row that was being timed shows the pairs so far")
    parts = [line for row in measured for line in _parts(row)]
    if parts:
        lines += ["", "parts, timed alone:", *parts]
    proofs = [line for row in measured for line in _proofs(row)]
    return [*lines, "", "proofs:", *proofs] if proofs else lines


def _cells(row: Mapping[str, Any], has_memory: bool, has_images: bool) -> list[str]:
    baseline = _ratio_of(row, "over_baseline") or {}
    cells = [
        str(row["stack"]),
        _format(_ratio_of(row, "over_baseline")),
        _format(_ratio_of(row, "over_previous")),
        f"{'~' if row.get('composed') else ''}{row['call_s']:.3g} s",
        f"{row['first_call_s']:.3g} s",
        break_even(baseline.get("verdict"), row.get("break_even_images")),
    ]
    if has_images:
        cells.insert(2, worst_image(row))
    if has_memory:
        cells.append(bytes_of(row.get("peak_bytes")))
    return cells


def worst_image(row: Mapping[str, Any]) -> str:
    """``"34.2 dB"`` of a row's worst image, ``"identical"``, or ``"broken"``; empty where none was
    drawn.
    """
    images = mapping(row.get("images"))
    if "broken" in images:
        return "broken"
    worst = number(images.get("worst"))
    if worst is None:
        return ""
    return "identical" if worst >= IDENTICAL_DB else f"{worst:.1f} dB"


def about_images(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the column of images is, and why it is empty."""
    lines = []
    drawn = [mapping(row["images"]) for row in rows if "images" in row]
    if drawn:
        sound = drawn[0].get("output") == "audio"
        lines.append(
            f"worst image: {'SNR' if sound else 'PSNR'} to fp32's of the worst of "
            f"{drawn[0].get('count')} drawn (counted); of another schedule it may be as good and "
            "far from it"
        )
    lines += [
        f"    {row['stack']}: {mapping(row['images'])['broken']}"
        for row in rows
        if "broken" in mapping(row.get("images"))
    ]
    reasons = dict.fromkeys(str(row["why_no_images"]) for row in rows if "why_no_images" in row)
    return [*lines, *(f"no images: {reason}" for reason in reasons)]


def _ratio_of(row: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    ratio: Mapping[str, Any] | None = row.get(name)
    return ratio


def _format(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None or not ratio["pairs"]:
        return ""
    mark = f" {NOISE}" if _is_noise(ratio) else ""
    return f"{interval(dict(ratio))}{mark}"


def _is_noise(ratio: Mapping[str, Any]) -> bool:
    return bool(ratio["verdict"] == "INCONCLUSIVE")


def break_even(verdict: object, images: float | None) -> str:
    """Images after which the longer first call has paid for itself, in words.

    ``verdict`` is that on the ratio over the baseline: where it is not told, nobody knows whether
    anything is saved.
    """
    if verdict == "INCONCLUSIVE":
        return "not told"
    return "never" if images is None else plural(math.ceil(images), "image")


def _parts(row: Mapping[str, Any]) -> list[str]:
    """``bf16: encoder 1.02× [0.98, 1.05]; 20 × denoiser 1.41× [1.38, 1.44]``; of an arm with other
    steps ``10 × denoiser 1.41× [1.38, 1.44] instead of 20 ×``.
    """
    parts: Mapping[str, Mapping[str, Any]] = row.get("composed") or {}
    found = [_part(role, part) for role, part in parts.items()]
    without = words(row.get("without"))
    found += [f"without {', '.join(without)}"] if without else []
    return [f"    {row['stack']}: {'; '.join(found)}"] if parts else []


def _part(role: str, part: Mapping[str, Any]) -> str:
    times = part["times"]
    was = part.get("times_in_baseline", times)
    text = f"{'' if times == 1 else f'{times} × '}{role} {_format(part)}"
    return text if was == times else f"{text} instead of {was} ×"


def _proofs(row: Mapping[str, Any]) -> list[str]:
    found: Mapping[str, str] = row.get("proofs", {})
    return [f"    {row['stack']}: {name}: {sentence}" for name, sentence in found.items()]

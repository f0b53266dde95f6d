"""Where the seconds of one call go: a bar for each arm on one scale, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..loose import count, mapping, number
from ..units import percent, seconds

BAR = 1000.0
"""The longest bar, in its own units."""

_ROWS = (
    ("text_encoder_s", "text encoders"),
    ("first_step_s", "first step"),
    ("steady_step_s", "a steady step"),
    ("denoiser_s", "denoiser, all steps"),
    ("vae_decode_s", "VAE decode"),
    ("rest_s", "rest"),
    ("call_s", "whole call"),
)


@dataclass(frozen=True)
class StageSegment:
    """One stage of a call; ``words`` are its seconds and its share of the call."""

    colour: str
    x: float
    width: float
    words: str


@dataclass(frozen=True)
class StageBar:
    """One call of an arm; ``words`` say the whole bar, for who does not see it."""

    arm: str
    segments: tuple[StageSegment, ...]
    total: str
    words: str


@dataclass(frozen=True)
class Stages:
    """``rows`` are (stage, baseline, candidate); ``legend`` pairs a colour with its words."""

    bars: tuple[StageBar, ...]
    legend: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, str], ...]


def stages(figures: Mapping[str, Any], arms: Sequence[str]) -> Stages | None:
    """Of one call of each of two ``arms``; ``None`` where nobody timed them."""
    both = [mapping(mapping(figures.get("stages")).get(arm)) for arm in ("baseline", "candidate")]
    rows = _rows(both)
    if not rows:
        return None
    calls = [_parts(arm) for arm in both]
    longest = max((sum(s for _, _, s in parts) for parts in calls), default=0.0)
    bars = [_bar(arm, parts, longest) for arm, parts in zip(arms, calls, strict=True) if parts]
    legend = {colour: words for parts in calls for colour, words, _ in parts}
    return Stages(tuple(bars), tuple(sorted(legend.items(), key=_place)), rows)


_COLOURS = ("s-encode", "s-first", "s-steady", "s-decode", "s-rest")


def _place(entry: tuple[str, str]) -> int:
    return _COLOURS.index(entry[0])


def _parts(arm: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Colour, words and seconds of the stages, in their order; what is left of the call last."""
    steps, steady_s = count(arm.get("steady_steps")), number(arm.get("steady_step_s"))
    found = [
        ("s-encode", "text encoders", number(arm.get("text_encoder_s"))),
        ("s-first", "first step", number(arm.get("first_step_s"))),
        ("s-decode", "VAE decode", number(arm.get("vae_decode_s"))),
    ]
    if steps is not None and steps > 0 and steady_s is not None:
        found.insert(2, ("s-steady", "steady steps", steps * steady_s))
    parts = [(colour, words, s) for colour, words, s in found if s is not None and s > 0]
    call_s = number(arm.get("call_s"))
    if call_s is None:
        return parts
    rest_s = round(call_s - sum(s for _, _, s in parts), 9)  # no clock tells less
    return [*parts, ("s-rest", "rest", rest_s)] if rest_s > 0 else parts


def _bar(arm: str, parts: Sequence[tuple[str, str, float]], longest: float) -> StageBar:
    total = sum(s for _, _, s in parts)
    segments, at = [], 0.0
    for colour, words, s in parts:
        width = BAR * s / longest
        share = f"{words} {seconds(s)}, {percent(s / total)}"
        segments.append(StageSegment(colour, round(at, 2), round(width, 2), share))
        at += width
    told = "; ".join(one.words for one in segments)
    return StageBar(arm, tuple(segments), seconds(total), f"{arm}: {seconds(total)}: {told}")


def _rows(arms: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str, str], ...]:
    rows = [(label, *(seconds(number(arm.get(key))) for arm in arms)) for key, label in _ROWS]
    steps = [count(arm.get("steady_steps")) for arm in arms]
    if any(one is not None and one > 0 for one in steps):
        rows.insert(3, ("steady steps", *("" if one is None else str(one) for one in steps)))
    components = [mapping(arm.get("components")) for arm in arms]
    shown = {"vae.decode"} if any(arm.get("vae_decode_s") for arm in arms) else set()
    rows += [
        (name, *(seconds(number(of_arm.get(name))) for of_arm in components))
        for name in dict.fromkeys(name for of_arm in components for name in of_arm)
        if name not in shown
    ]
    return tuple((label, first, second) for label, first, second in rows if first or second)

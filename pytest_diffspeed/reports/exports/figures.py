"""The figures of a session that other tools may keep: ratios, counts and similarity.

Milliseconds only where they are asked for: those of two machines, or of one machine on two days,
must not be compared, and whatever reads an export will do just that.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...records.reader import RecordedSession
from ...records.verdict import GateResult

KINDS = RATIO, COUNT, SIMILARITY, SECONDS = "ratio", "count", "similarity", "seconds"


@dataclass(frozen=True)
class Figure:
    """One number of one gate.  ``name`` is short and the same in all sessions, as ``breaks``.

    ``low`` and ``high`` bound ``value`` where it was measured and they are finite.  ``better`` is
    ``"higher"`` or ``"lower"``; ``unit`` is for people.
    """

    test: str
    stack: str
    claim: str
    name: str
    value: float
    low: float | None
    high: float | None
    unit: str
    better: str
    kind: str
    verdict: str

    @property
    def gate(self) -> str:
        """Test, stack and claim in one line: what the figure belongs to."""
        return one_line(f"{self.test} ({self.stack}): {self.claim}")


def one_line(text: str) -> str:
    """``text`` without line breaks and other control characters, which end names in other tools."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(shown.split())


def figures_of(session: RecordedSession, *, milliseconds: bool = False) -> tuple[Figure, ...]:
    """All figures that a session may be exported with, in the order of its gates."""
    found = (figure for gate in session.latest for figure in figures_of_result(gate.result))
    return tuple(figure for figure in found if milliseconds or figure.kind != SECONDS)


def figures_of_result(result: GateResult) -> Iterator[Figure]:
    """The figures of one gate, durations too; none where it counted and measured nothing."""
    figures = result.figures
    for name, value, unit, better, kind, bounds in [
        *_ratio(figures),
        *_counts(figures),
        *_similarity(figures),
        *_seconds(figures),
    ]:
        if is_number(value):
            low, high = (float(b) if is_number(b) else None for b in bounds)
            yield Figure(
                result.test,
                result.stack,
                result.claim,
                name,
                float(value),
                low,
                high,
                unit,
                better,
                kind,
                str(result.verdict),
            )


def is_number(value: object) -> bool:
    """Whether another tool can read it as one: finite, and neither true nor false."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no double holds
        return False


_Row = tuple[str, Any, str, str, str, Sequence[Any]]
_UNBOUNDED = (None, None)


def _ratio(figures: Mapping[str, Any]) -> Iterator[_Row]:
    if figures.get("pairs") and "ratio" in figures:
        bounds = (figures.get("low"), figures.get("high"))
        yield "ratio", figures["ratio"], "×", "higher", RATIO, bounds


_LOWER: Mapping[str, tuple[str, str, str]] = {
    "breaks": ("breaks", "graph breaks", COUNT),
    "recompiles": ("recompiles", "recompilations", COUNT),
    "memory_ratio": ("memory_ratio", "× peak memory", RATIO),
}
"""Figures of gates that count: the name here, the unit and the kind; lower is better in all."""


def _counts(figures: Mapping[str, Any]) -> Iterator[_Row]:
    for name, (short, unit, kind) in _LOWER.items():
        if name in figures:
            yield short, figures[name], unit, "lower", kind, _UNBOUNDED
    per_step = figures.get("per_step")
    if isinstance(per_step, list) and is_number(figures.get("first_step")):
        once = figures["first_step"] + _number(figures.get("outside"))
        steps = [count for count in per_step if is_number(count)]
        yield "syncs_first_step", once, "host syncs", "lower", COUNT, _UNBOUNDED
        yield "syncs_per_step", max(steps, default=0), "host syncs", "lower", COUNT, _UNBOUNDED
    head = figures.get("head")
    if isinstance(head, Mapping):  # counts against a base: of each component, by what was counted
        sums: dict[str, float] = {}
        for counts in head.values():
            for what, count in counts.items() if isinstance(counts, Mapping) else ():
                what = one_line(what)
                sums[what] = sums.get(what, 0) + _number(count)
        for what, count in sums.items():
            yield what, count, what, "lower", COUNT, _UNBOUNDED


def _number(value: Any) -> float:
    return value if is_number(value) else 0


LOWER_IS_BETTER = frozenset(
    {
        "mae",
        "max_abs",
        "flicker",
        "spectral_distance",
        "log_spectral_distance",
        "other_image_ratio",
        "latent_l2",
        "denoiser_l2",
        "lpips",
        "flip",
    }
)
"""Metrics of images, videos and sounds that are distances; all others measure likeness."""
_UNITS = {"psnr": "dB", "snr": "dB", "log_spectral_distance": "dB"}


def _similarity(figures: Mapping[str, Any]) -> Iterator[_Row]:
    metrics = figures.get("metrics")
    if not isinstance(metrics, Mapping):
        return
    for metric, both in metrics.items():
        if not isinstance(both, list):
            continue
        better = "lower" if metric in LOWER_IS_BETTER else "higher"
        for part, value in zip(("mean", "worst"), both, strict=False):
            unit = _UNITS.get(metric, one_line(metric))
            yield one_line(f"{metric}_{part}"), value, unit, better, SIMILARITY, _UNBOUNDED


def _seconds(figures: Mapping[str, Any]) -> Iterator[_Row]:
    for name in ("baseline_s", "candidate_s", "candidate_first_call_s", "first_call_s"):
        if name in figures and ("pairs" not in figures or figures["pairs"]):
            yield name, figures[name], "s", "lower", SECONDS, _UNBOUNDED


def without_figures(session: RecordedSession, figures: Iterable[Figure]) -> tuple[str, ...]:
    """Gates that an export leaves out, in one line each: nothing was counted or measured there."""
    have = {(f.test, f.stack, f.claim) for f in figures}
    return tuple(
        one_line(f"{r.verdict} {r.test} ({r.stack}): {r.claim}")
        for r in (gate.result for gate in session.latest)
        if (r.test, r.stack, r.claim) not in have
    )

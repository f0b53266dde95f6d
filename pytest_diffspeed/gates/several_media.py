"""Outputs of several media, such as a video and its sound: all are compared, the worst decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..records.verdict import VerdictKind
from .similarity_text import found_text

if TYPE_CHECKING:
    from ..similarity import SimilarityReport
    from .baseline_images import BaselineImages
    from .compare_outputs import Outputs

_WORST_FIRST = (VerdictKind.FAIL, VerdictKind.INCONCLUSIVE, VerdictKind.PASS)


@dataclass(frozen=True)
class ComparedMedium:
    """One medium: the baseline's outputs, the candidate's, and the report on them."""

    reference: BaselineImages
    drawn: Outputs
    report: SimilarityReport


def limits_for(
    medium: str, media: tuple[str, ...], limits: Mapping[str, float]
) -> dict[str, float]:
    """Those of ``limits`` that ``medium`` has.  One that none of ``media`` has stays with the first
    of them, which refuses it.
    """
    from ..similarity.presets import METRICS_OF, metric_of

    def has(one: str, name: str) -> bool:
        return metric_of(name) in METRICS_OF[one]

    return {
        name: bound
        for name, bound in limits.items()
        if has(medium, name) or (medium == media[0] and not any(has(one, name) for one in media))
    }


def loosest(limits: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """All of them in one; of a limit that several media have, what all of them meet."""
    from ..similarity.presets import HIGHER_IS_BETTER, metric_of

    together: dict[str, float] = {}
    for name, bound in (item for one in limits for item in one.items()):
        pick = min if HIGHER_IS_BETTER[metric_of(name)] else max
        together[name] = pick(together.get(name, bound), bound)
    return together


def worst_verdict(compared: tuple[ComparedMedium, ...]) -> VerdictKind:
    verdicts = {VerdictKind(one.report.verdict) for one in compared}
    return next(verdict for verdict in _WORST_FIRST if verdict in verdicts)


def reason_of(compared: tuple[ComparedMedium, ...]) -> str:
    """Of several media, of those that decide."""
    if len(compared) == 1:
        return compared[0].report.reason
    worst = worst_verdict(compared)
    deciding = [one.report for one in compared if one.report.verdict == worst.value]
    return "; ".join(f"{report.medium}: {report.reason}" for report in deciding)


def found_of(compared: tuple[ComparedMedium, ...]) -> str:
    return "; and ".join(found_text(one.report, one.reference) for one in compared)


def record_of(one: ComparedMedium) -> dict[str, Any]:
    """What a record says of a medium beside the first."""
    report, floor = one.report, one.reference.floor
    return {
        "output": report.medium,
        "verdict": report.verdict,
        "reason": report.reason,
        "limits": report.limits,
        "metrics": {name: list(figures) for name, figures in report.metrics.items()},
        "misses": [{**vars(miss), "label": report.labels[miss.image]} for miss in report.misses],
        "findings": [vars(finding) for finding in report.findings],
        "skipped": report.skipped,
        "notes": list(report.notes),
        "floor": {name: list(figures) for name, figures in floor.metrics.items()},
        "floor_again": floor.again,
        "floor_kernels": floor.kernels,
        "sample_rate_hz": one.reference.drawn.sample_rate_hz,
    }

"""Why images, videos or sounds are red: broken, others than they should be, or too far off."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.text import first_line
from ..records.verdict import Cause
from ..reports.metric_names import short_metric_name
from ..similarity.presets import (
    FEWER_STEPS,
    IN_DECIBELS,
    METRICS,
    PRESETS_OF,
    TILES,
    met,
    metric_of,
)

if TYPE_CHECKING:
    from ..similarity import Finding, Miss, SimilarityReport
    from .compare_outputs import Outputs

OTHER_PICTURES = 0.5
"""From this share of the distance between different pictures on, it is no error of the same one:
the loosest preset allows 0.098."""
_OF_RANKS = ("rank1", "other_image_ratio")
CHANGED_SINCE_BASE = "see what changed since the base, or set the limit to what is seen"
OTHER_CALL_IN_BASE = (
    "the base has other weights or inputs (-v): seed the source, if none were meant"
)
_LOOK = {
    "image": "look at the pictures, worst first",
    "video": "look at the strips of frames, worst first",
    "sound": "look at the spectrograms, worst first",
}


def image_cause(report: SimilarityReport, drawn: Outputs, preset: str) -> Cause:
    """The cause of a report that did not pass; ``drawn`` are the candidate's outputs."""
    from ..similarity.report import NOUNS

    noun = NOUNS[report.medium]
    if report.findings:
        return _broken(report, report.findings, drawn, noun)
    if not report.misses:
        if report.verdict == "INCONCLUSIVE":
            step = "name a preset, or a limit that this output has, such as psnr_worst=20"
            return Cause("NOT DECIDED", "no limit was checked", step)
        step = "give the call the same height, width and number of outputs in both arms"
        return Cause(f"{noun}s".upper(), first_line(report.reason), step)
    if _are_others(report):
        rank = report.metrics.get("rank1")
        found = f"these are other {noun}s than the baseline's"
        if rank is not None:
            found += f": {rank[0]:.0%} are nearest to their own"
        return Cause(f"other {noun}s".upper(), found, "check prompts, seeds, and the text encoder")
    return _too_far(report, preset, noun)


def _broken(
    report: SimilarityReport, findings: tuple[Finding, ...], drawn: Outputs, noun: str
) -> Cause:
    first = findings[0]
    many = f" ({len(findings)} of {len(report.labels)} {noun}s)" if len(findings) > 1 else ""
    found = f"{report.labels[first.image]} {first.problem}{many}"
    if first.kind != "not finite":
        step = f"{_LOOK[noun]}; what is black or of one colour often had NaN before"
        if first.kind == "range":
            step = "give outputs in [0, 1]"
        return Cause(f"broken {noun}s".upper(), found, step)
    finite = _finite_latents(drawn, first.image)
    if finite is None:
        step = "see whether latents are finite (output_type='latent'): if so, it is the VAE"
    elif finite:
        found += "; its latents are finite"
        step = "it is the VAE: keep it in float32 (force_upcast), or take bf16"
    else:
        found += "; so are its latents"
        step = "it is the denoiser or a text encoder: take bf16, whose range is that of float32"
    return Cause(f"broken {noun}s".upper(), found, step)


def _finite_latents(drawn: Outputs, image: int) -> bool | None:
    if drawn.latents is None or image >= len(drawn.latents):
        return None
    return bool(drawn.latents[image].isfinite().all())


def _are_others(report: SimilarityReport) -> bool:
    if report.metrics.get("rank1", (1.0, 1.0))[0] < 1.0:
        return True
    return report.metrics.get("other_image_ratio", (0.0, 0.0))[0] >= OTHER_PICTURES


def _too_far(report: SimilarityReport, preset: str, noun: str) -> Cause:
    miss = _clearest(report.misses)
    named = f" ({preset!r})" if preset in PRESETS_OF[report.medium] else ""
    metric = metric_of(miss.limit)
    of_what = miss.limit.rpartition("_")[2]
    unit = " dB" if metric in IN_DECIBELS else ""
    name = short_metric_name(metric, {"output": report.medium})
    found = (
        f"{of_what} {name} {miss.found:.4g}{unit}, "
        f"needs {miss.bound:.4g}{unit}{named}; worst: {report.labels[miss.image]}"
    )
    wider = _passed(report)
    step = f"{_LOOK[noun]}; fix the stack, or set the limit to what is seen"
    if wider is not None:
        step = f"{_LOOK[noun]}; preset {wider!r} would pass"
    return Cause(f"{noun}s".upper(), found, step)


def _clearest(misses: tuple[Miss, ...]) -> Miss:
    """A metric of the pictures themselves says more than a rank."""
    order = [name for name in METRICS if name not in _OF_RANKS]
    return min(
        misses,
        key=lambda miss: (
            order.index(metric_of(miss.limit)) if metric_of(miss.limit) in order else len(order)
        ),
    )


def _passed(report: SimilarityReport) -> str | None:
    """The strictest preset whose limits these outputs meet; one for another schedule or for tiles
    is no advice for a stack that has neither, and those that have one have its preset already.
    """
    for name, limits in PRESETS_OF[report.medium].items():
        if name in (FEWER_STEPS, TILES):
            continue
        checked = [limit for limit in limits if metric_of(limit) in report.metrics]
        if checked and all(met(limit, report.found(limit), limits[limit]) for limit in checked):
            return name
    return None

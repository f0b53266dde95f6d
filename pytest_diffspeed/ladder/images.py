"""How far a row's images are from the baseline's, beside its ratio: what is free, and what costs
pictures.

Fewer are drawn than a gate draws, and nothing is judged: a ladder tells, and gates assert.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arms.session_options import QUICK
from ..common.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..arms.spec import ArmSpec
    from ..gates.compare_outputs import Outputs
    from ..pipelines.cases import Case

BUDGET_S = 2.0
"""Seconds of images in a row of the quick ladder, by those of the baseline's call."""
TIMES_SLOWER = 10.0
"""A stack that takes more than so many times these seconds (fp16 on a CPU) draws none there."""
FEWEST = 2
"""Of one image nobody could say that it is the worst."""
_MEMO = "images of the ladder"
_LEADING = ("psnr", "snr")
"""What stands for a row: of pictures, and of sounds; both in dB."""


def add_images(candidate: PreparedArm, session: Session, row: dict[str, Any]) -> None:
    """Put ``images`` into a measured ``row``, or ``why_no_images``: a row is not red for them."""
    try:
        row["images"] = _compared(candidate, session, row)
    except (MeasurementError, UsageError) as error:
        row["why_no_images"] = str(error)


def _compared(candidate: PreparedArm, session: Session, row: dict[str, Any]) -> dict[str, Any]:
    from ..gates.baseline_images import draw
    from ..gates.compare_outputs import compare_outputs

    candidate.require_unchanged()
    cases, theirs = _of_baseline(candidate.spec, session, row)
    if session.options.ladder == QUICK and len(cases) * row["call_s"] > TIMES_SLOWER * BUDGET_S:
        raise MeasurementError(
            f"a call with {candidate.spec.stack} takes {row['call_s']:.3g} s, too long for "
            f"{len(cases)} images in the quick ladder; --diffspeed-ladder=full draws them"
        )
    with session.shared_device():  # drawing beside somebody's timing would disturb it
        own = draw(session, candidate, cases)
    report = compare_outputs(
        theirs,
        own,
        session.device.torch_device,
        prompts=[case.name for case in cases],
        seeds=[case.seed for case in cases],
    )
    found: dict[str, Any] = {"count": len(cases), "output": report.medium}
    if report.findings or not report.metrics:
        return {**found, "broken": report.reason}
    metric = next(name for name in _LEADING if name in report.metrics)
    mean, worst = report.metrics[metric]
    return {
        **found,
        "metric": metric,
        "mean": mean,
        "worst": worst,
        "worst_case": report.labels[report.worst[metric]],
        "metrics": {name: list(figures) for name, figures in report.metrics.items()},
    }


def _of_baseline(
    spec: ArmSpec, session: Session, row: dict[str, Any]
) -> tuple[tuple[Case, ...], Outputs]:
    """The cases and what the baseline draws of them: the same for all rows of a source,
    but for those with an adapter.

    Raises:
        UsageError: images of this source say nothing.
        MeasurementError: they cannot be drawn, or take too long for the quick ladder.
    """
    from ..gates.baseline_images import LEAST_IMAGES, draw
    from ..gates.catalog.similarity import ImageSimilarity, SimilarityGate
    from ..pipelines.cases import image_cases

    unfit = SimilarityGate().unfit(ImageSimilarity.from_arguments(), spec.source)
    if unfit is not None:
        raise UsageError(unfit)
    memo = _MEMO, spec.source, spec.stack.baseline
    known: tuple[tuple[Case, ...], Outputs] | None = session.memo.get(memo)
    if known is not None:
        return known
    number = LEAST_IMAGES
    if session.options.ladder == QUICK:
        call_s = row["over_baseline"]["baseline_s"]
        number = min(number, int(BUDGET_S / call_s))
        if number < FEWEST:
            raise MeasurementError(
                f"a call of the baseline takes {call_s:.3g} s, and the quick ladder draws images "
                f"for {BUDGET_S:g} s a row; --diffspeed-ladder=full draws {LEAST_IMAGES} in each"
            )
    baseline = session.arms.baseline(spec.source, spec.stack)
    cases = image_cases(baseline.call.defaults, number)[:number]
    with session.shared_device():
        found = cases, draw(session, baseline, cases)
    session.memo[memo] = found
    return found

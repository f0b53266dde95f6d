"""What many gates in one session mean for the error rate.  It never changes a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.verdict import GateResult


def over_many_gates(results: Sequence[GateResult]) -> str | None:
    """One sentence on all the gates on a ratio, or ``None`` where there are fewer than two.

    Each false verdict has a probability of at most ``alpha`` at the threshold, so as many are to be
    expected as the alphas add up to.

    Which of them hold at a false discovery rate is not told.  A gate stops as soon as its e-value
    is 1 / alpha, and to hold among K gates of which k fail it would have to be K / k times that: of
    ten FAILs among twenty gates none would hold, however true all ten are.
    """
    ratios = [result for result in results if "evidence_for_fail" in result.figures]
    if len(ratios) < 2:
        return None
    alarms = sum(result.figures["alpha"] for result in ratios)
    return f"{len(ratios)} gates on a ratio: expect at most {alarms:.2g} false verdicts"

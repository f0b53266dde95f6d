"""What many gates in one session mean for the error rate.  It never changes a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.verdict import GateResult, VerdictKind

LEVEL = 0.05
"""The false discovery rate at which FAILs are looked at once more, together."""


def over_many_gates(results: Sequence[GateResult]) -> str | None:
    """One sentence on all the gates on a ratio, or ``None`` where there are fewer than two.

    Each false FAIL has a probability of at most ``alpha`` at the threshold, so as many are to be
    expected as the alphas add up to.  Which FAILs hold together is told by e-BH, whatever the gates
    share (:func:`pytest_diffspeed.statistics.benjamini_hochberg_e`).
    """
    from ..statistics import benjamini_hochberg_e  # numpy: not at collection

    ratios = [result for result in results if "evidence_for_fail" in result.figures]
    if len(ratios) < 2:
        return None
    alarms = sum(result.figures["alpha"] for result in ratios)
    sentence = f"{len(ratios)} gates on a ratio: expect at most {alarms:.2g} false verdicts"
    failed = [result.verdict is VerdictKind.FAIL for result in ratios]
    if any(failed):
        hold = benjamini_hochberg_e([r.figures["evidence_for_fail"] for r in ratios], LEVEL)
        both = sum(h and f for h, f in zip(hold, failed, strict=True))
        sentence += (
            f"; {both} of {sum(failed)} FAILs also hold when all gates are judged together (false "
            f"discovery rate {LEVEL:.0%}); each verdict stands by itself"
        )
    return sentence

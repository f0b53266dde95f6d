"""Why a ratio is red: it is shown to be too small, or the budget was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...common.text import plural
from ...records.verdict import Cause, VerdictKind

if TYPE_CHECKING:
    from ...timing.comparison import SpeedupResult


def ratio_cause(over: str, measured: SpeedupResult, *, whatever_policy: bool) -> Cause:
    """The cause of a ratio that did not pass; the budget is the one that its reason names.

    ``whatever_policy``: it fails its test although the policy would not have it.
    """
    found = f"{_interval(measured)} over {over}, needs {measured.min_ratio:.3g}×"
    found += f"; {plural(measured.pairs, 'pair')}"
    if not measured.pairs:
        found = measured.reason.partition("; ")[0]
    if whatever_policy:
        found = f"no pair was timed, which fails whatever the policy: {found}"
    if measured.verdict is VerdictKind.FAIL:
        kind = "SLOWDOWN" if measured.min_ratio < 1 else "SPEED"
        step = "see where the time goes (stages in the HTML report), or ask for less"
        if measured.low > 0 and measured.min_ratio >= 1:
            step += f": min_speedup({_floored(measured.low)})"
        return Cause(kind, found, step)
    if measured.needed_budget_s is None:
        step = "too close to the threshold to tell: choose another one, or a quieter machine"
    else:
        step = f"--diffspeed-budget={measured.needed_budget_s} can be expected to decide it"
    return Cause("NOT DECIDED", found, step)


def _interval(measured: SpeedupResult) -> str:
    low = f"{measured.low:.2f}" if measured.low > 0 else "0"
    high = f"{measured.high:.2f}" if math.isfinite(measured.high) else "∞"
    return f"{measured.ratio:.2f}× [{low}, {high}]"


def _floored(ratio: float) -> str:
    """Down, so that what was measured just now would be expected to pass."""
    return f"{math.floor(ratio * 100) / 100:g}"

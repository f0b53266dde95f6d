"""Why a ratio is red: it is shown to be too small, or the budget was."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ...common.text import outside, plural
from ...records.verdict import Cause, VerdictKind

if TYPE_CHECKING:
    from ...timing.comparison import SpeedupResult
    from .marker import SpeedMarker


def ratio_cause(
    marker: SpeedMarker,
    over: str,
    measured: SpeedupResult,
    *,
    has_stages: bool,
    whatever_policy: bool,
) -> Cause:
    """The cause of a ratio that did not pass; the budget is the one that its reason names.

    ``has_stages``: the record gets the seconds of the stages of a call beside it.
    ``whatever_policy``: it fails its test although the policy would not have it.
    """
    found = f"{_interval(measured)} over {over}, needs {measured.min_ratio:.3g}×"
    found += f"; {plural(measured.pairs, 'pair')}"
    if not measured.pairs:
        found = measured.reason.partition("; ")[0]
    if whatever_policy:
        found = f"no pair was timed, which fails whatever the policy: {found}"
    if measured.verdict is VerdictKind.FAIL:
        step = f"{_first_step(marker, has_stages)}, or ask for less"
        if measured.low > 0:
            weaker = marker.asking_for(measured.low)
            step += "" if weaker is None else f": {weaker}"
        return Cause(marker.FAILURE, found, step)
    if measured.needed_instances is not None:
        step = f"--diffspeed-instances={measured.needed_instances}: its processes differ too much"
    elif measured.needed_budget_s is None:
        step = "too close to the threshold to tell: choose another one, or a quieter machine"
    else:
        step = f"--diffspeed-budget={measured.needed_budget_s} can be expected to decide it"
    return Cause("NOT DECIDED", found, step)


def _first_step(marker: SpeedMarker, has_stages: bool) -> str:
    """Where to look first, of what there is to look at."""
    if marker.is_against_base:
        return "see what changed since the base"
    if has_stages:
        return "see where the time goes (stages in the HTML report)"
    return f"profile the {marker.unit} of both"


def _interval(measured: SpeedupResult) -> str:
    def written(value: float) -> str:
        return f"{value:.2f}" if math.isfinite(value) else "∞"

    low, high = measured.low, measured.high
    ends = f"[{written(low) if low > 0 else '0'}, {written(high)}]"
    return f"{written(measured.ratio)}× {outside(measured.ratio, low, high, written)}{ends}"

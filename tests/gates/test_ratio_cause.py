"""What a ratio that failed says to do next: something that there is, in the marker's own words."""

from itertools import repeat

import pytest

from pytest_diffspeed.gates.catalog.speedup import MaxSlowdown, MinSpeedup
from pytest_diffspeed.gates.ratios.cause import ratio_cause
from pytest_diffspeed.records.verdict import ONE_LINE, VerdictKind
from pytest_diffspeed.timing.speedup import measure_speedup
from tests.clocks import ScriptedClock


def failed(marker, candidate_s):
    """What scripted pairs of a second against ``candidate_s`` show of ``marker``."""
    clock = ScriptedClock(one=repeat(1.0), other=repeat(candidate_s))
    found = measure_speedup(
        lambda: "one", lambda: "other", min_ratio=marker.min_ratio, clock=clock, seed=1
    )
    assert found.verdict is VerdictKind.FAIL
    return ratio_cause(marker, str(marker.over), found, has_stages=False, whatever_policy=False)


@pytest.mark.parametrize(
    ("marker", "candidate_s", "kind", "weaker"),
    [
        (MinSpeedup.from_arguments(3), 0.49, "SPEED", ": min_speedup(2.04)"),
        (MinSpeedup.from_arguments(3), 2.0, "SPEED", ""),
        (MaxSlowdown.from_arguments(0), 1.245, "SLOWDOWN", ": max_slowdown(25)"),
        (MaxSlowdown.from_arguments(5), 1.255, "SLOWDOWN", ": max_slowdown(26)"),
    ],
)
def test_less_is_asked_for_with_the_same_marker(marker, candidate_s, kind, weaker):
    cause = failed(marker, candidate_s)
    assert cause.kind == kind
    assert cause.next_step == f"profile the call of both, or ask for less{weaker}"
    assert len(cause.next_step) <= ONE_LINE


def test_what_is_slower_than_the_base_is_looked_for_in_what_changed():
    marker = MaxSlowdown.from_arguments(5, over="base", unit="step")
    cause = failed(marker, 2.0)
    assert cause.next_step.startswith("see what changed since the base, or ask for less")

"""What the summary says of many gates at once."""

import pytest

from pytest_diffspeed.gates.false_discovery import over_many_gates
from pytest_diffspeed.records.verdict import EvidenceKind, GateResult, VerdictKind


def gate(verdict, evidence_for_fail=1.0):
    return GateResult(
        gate="min_speedup",
        claim="min_speedup over fp32 per call",
        test="test_a.py::test_a[compile]",
        stack="compile",
        verdict=verdict,
        reason="",
        evidence=EvidenceKind.MEASURED,
        blocking=verdict is VerdictKind.FAIL,
        figures={"alpha": 0.05, "evidence_for_fail": evidence_for_fail},
    )


FAIL, PASS = VerdictKind.FAIL, VerdictKind.PASS


@pytest.mark.parametrize("results", [[], [gate(FAIL, 30.0)]])
def test_one_gate_needs_no_such_sentence(results):
    assert over_many_gates(results) is None


def test_without_failures_only_false_alarms_are_told():
    said = over_many_gates([gate(PASS)] * 10)
    assert said == "10 gates on a ratio: expect at most 0.5 false verdicts"


@pytest.mark.parametrize(
    ("evidence", "held"),
    [
        ((25.0, 25.0), "0 of 2 FAILs"),  # e-BH needs 10 / (0.05 * 2) = 100 of both
        ((100.0, 100.0), "2 of 2 FAILs"),
        ((250.0, 25.0), "1 of 2 FAILs"),  # and 10 / 0.05 = 200 of one alone
    ],
)
def test_failures_are_looked_at_together(evidence, held):
    results = [gate(FAIL, e) for e in evidence] + [gate(PASS)] * 8
    assert over_many_gates(results).endswith(
        f"; {held} also hold when all gates are judged together (false discovery rate 5%); each "
        "verdict stands by itself"
    )

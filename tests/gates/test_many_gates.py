"""What the summary says of many gates at once."""

import pytest

from pytest_diffspeed.gates.many_gates import over_many_gates
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


@pytest.mark.parametrize("failed", [0, 10])
def test_false_verdicts_are_told_and_no_failure_is_called_into_question(failed):
    """Ten of ten true FAILs among twenty gates were said not to hold "together", always."""
    results = [gate(FAIL, 22.0)] * failed + [gate(PASS)] * (20 - failed)
    assert over_many_gates(results) == "20 gates on a ratio: expect at most 1 false verdicts"

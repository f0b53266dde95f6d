"""What reports show of records that do not say it themselves, and of those that do."""

import dataclasses

import pytest

from pytest_diffspeed.gates.registry import gates
from pytest_diffspeed.records.journal import Journal
from pytest_diffspeed.records.older import axis_of, metrics_of
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.records.verdict import Axis, EvidenceKind, GateResult, Metric, VerdictKind

KERNELS = Metric("kernels", 3, "kernels", series="kernels")


def result(gate="max_kernels", **changes):
    plain = GateResult(
        gate, gate, "test_a.py::test_a", "bf16", VerdictKind.PASS, "", EvidenceKind.COUNTED, False
    )
    return dataclasses.replace(plain, **changes)


OF_0_1 = (
    "no_graph_breaks",
    "no_recompiles",
    "no_gpu_syncs",
    "image_similarity",
    "min_speedup",
    "max_slowdown",
    "max_memory",
    "max_compile_time",
)


@pytest.mark.parametrize("name", OF_0_1)
def test_the_gates_of_old_records_stand_where_they_stand_today(name):
    today = {marker.marker: marker.axis for marker in gates()}
    assert axis_of(result(name)) is today[name]


@pytest.mark.parametrize(
    ("figures", "axis"),
    [({}, Axis.OTHER), ({"new_sites": []}, Axis.STRUCTURE), ({"ratio": 1.0}, Axis.RATIO)],
)
def test_a_gate_that_nobody_knows_is_placed_by_its_figures(figures, axis):
    assert axis_of(result(figures=figures)) is axis


def test_what_a_record_says_wins():
    said = result("max_memory", axis="structure", metrics=(KERNELS,), figures={"breaks": 2})
    assert axis_of(said) is Axis.STRUCTURE
    assert metrics_of(said) == (KERNELS,)
    assert metrics_of(dataclasses.replace(said, metrics=())) == ()
    old = metrics_of(dataclasses.replace(said, metrics=None))
    assert old == (Metric("breaks", 2, "graph breaks", series="breaks"),)


def test_a_place_of_a_later_version_is_no_error():
    assert axis_of(result("max_memory", axis="energy")) is Axis.OTHER


@pytest.mark.parametrize("said", [{}, {"axis": "structure", "metrics": (KERNELS,)}])
def test_both_come_back_from_a_file(tmp_path, assert_documented, said):
    journal = Journal(tmp_path / "a.jsonl")
    written = result(**said)
    journal.write("gate", **written.as_dict())
    (gate,) = read_journal(journal.path).gates
    assert gate.result == written
    assert_documented({"schema": "diffspeed/1", "kind": "gate", **written.as_dict()})

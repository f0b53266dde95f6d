"""The gates on what is compiled, over a stack that compiles blocks by themselves."""

import pytest

from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.catalog import compile as compile_catalog

SUITE = """
import pytest

@pytest.mark.diffspeed("compile_regional")
@pytest.mark.no_graph_breaks()
@pytest.mark.no_recompiles(sizes={sizes})
@pytest.mark.max_compile_time({seconds})
def test_structure(optimized_pipeline): ...
"""


@pytest.fixture
def run(pytester, run_diffspeed, fresh_dynamo, monkeypatch):
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")

    def run_(sizes="None", seconds=3600):
        pytester.makepyfile(test_it=SUITE.format(sizes=sizes, seconds=seconds))
        source = "--diffspeed-pipeline=small_pipeline:flux"
        outcome = run_diffspeed(source, "--diffspeed-json=records.jsonl")
        gates = read_journal(pytester.path / "records.jsonl").gates
        return outcome, {gate.result.gate: gate.result for gate in gates}

    return run_


def test_blocks_are_looked_at_and_do_not_compile_again(run):
    outcome, found = run()
    outcome.assert_outcomes(passed=1)
    breaks = found["no_graph_breaks"].figures["components"]["transformer"]
    assert breaks["how"].startswith("regional: 2 parts compiled by themselves (FluxSingleTr")
    assert found["no_recompiles"].figures["report"]["components"] == ["transformer"]
    assert found["max_compile_time"].figures["graphs"] == 2


def test_another_size_compiles_again_and_a_long_cold_start_is_red(run):
    outcome, found = run(sizes="[(16, 24)]", seconds=0.001)
    outcome.assert_outcomes(failed=1)
    assert found["no_graph_breaks"].verdict == "PASS"
    again = found["no_recompiles"].figures["report"]["recompiles"]
    assert {one["component"] for one in again} == {"transformer"}
    assert {one["function"] for one in again} <= {
        "FluxTransformerBlock.forward",
        "FluxSingleTransformerBlock.forward",
    }
    # It compiles repeated blocks only already.
    step = "keep a compile cache, or allow more seconds"
    assert found["max_compile_time"].cause.next_step == step

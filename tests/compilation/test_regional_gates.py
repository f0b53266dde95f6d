"""The gates on what is compiled, over a stack that compiles blocks by themselves."""

from types import SimpleNamespace

import pytest

from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.compilation.cost import Compilation
from pytest_diffspeed.gates.catalog.compile_time import _require_cold
from pytest_diffspeed.records.reader import read_journal
from pytest_diffspeed.techniques.apply import Applied
from pytest_diffspeed.techniques.catalog import compile as compile_catalog
from pytest_diffspeed.techniques.stacks import parse_stack
from tests.printed import in_one_line

SUITE = """
import pytest

@pytest.mark.diffspeed("compile_regional")
@pytest.mark.no_graph_breaks()
@pytest.mark.no_recompiles(sizes={sizes})
@pytest.mark.max_compile_time({seconds})
def test_structure(optimized_pipeline): ...
"""

COLD = """
import pytest

@pytest.mark.diffspeed("compile_regional")
@pytest.mark.max_compile_time(3600)
def test_structure(optimized_pipeline): ...
"""


@pytest.fixture
def run_compiled(pytester, run_diffspeed, fresh_dynamo, monkeypatch):
    monkeypatch.setattr(compile_catalog.Compile, "backend", "eager")

    def run_(suite):
        pytester.makepyfile(test_it=suite)
        source = "--diffspeed-pipeline=small_pipeline:flux"
        outcome = run_diffspeed(source, "--diffspeed-json=records.jsonl")
        return outcome, read_journal(pytester.path / "records.jsonl").gates

    return run_


@pytest.fixture
def run(run_compiled):
    def run_(sizes="None", seconds=3600):
        outcome, gates = run_compiled(SUITE.format(sizes=sizes, seconds=seconds))
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


ANOTHER = """
from pytest_diffspeed import apply_stack
from pytest_diffspeed.pipelines.call import PipelineCall
from pytest_diffspeed.pipelines.sources import parse_source

KEPT = []

def test_earlier():
    source = parse_source("small_pipeline:flux")
    KEPT.append(source.build())
    apply_stack(KEPT[0], "compile_regional", call=PipelineCall(KEPT[0], source.defaults(KEPT[0])))
"""


@pytest.mark.usefixtures("verbose")
def test_code_that_this_process_had_compiled_is_no_cold_start(run_compiled):
    """Dynamo keeps what it compiled with the class of a block: any limit would be kept."""
    outcome, (gate,) = run_compiled(ANOTHER + COLD)
    outcome.assert_outcomes(passed=1, failed=1)
    assert gate.result.verdict not in ("PASS", "FAIL")
    in_one_line(outcome).fnmatch_lines(
        [
            "*the first call of compile_regional was no cold start: transformer ran code that this "
            "process had compiled before, for another stack or an earlier test; run this test in a "
            "session of its own*"
        ]
    )


def test_only_what_this_session_wrote_into_the_cache_is_refused():
    """What it found there when it began is what users keep a cache for."""
    stack = parse_stack("bf16+compile")
    spec, applied = ArmSpec("demo", stack), Applied(stack, (), 1.0)
    _require_cold(SimpleNamespace(spec=spec, applied=applied, compilation=Compilation(2, 2)))
    paid_here = Compilation(2, 2, paid_here=1)
    with pytest.raises(MeasurementError, match=r"no cold start: 1 graph came from inductor's cac"):
        _require_cold(SimpleNamespace(spec=spec, applied=applied, compilation=paid_here))

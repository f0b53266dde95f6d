"""A compiled stack against a base, where a simulated GPU counts: not what it never ran."""

import pytest

from pytest_diffspeed.techniques.catalog.compile import Compile

CONFTEST = """
from pytest_diffspeed.techniques.catalog.compile import Compile

Compile.backend = "eager"
"""
PIPELINE = """
from pytest_diffspeed.pipelines import random_weights

def make():
    return random_weights.build("sdxl-tiny")

make.call_defaults = {"steps": 2}
"""
TEST = """
import pytest

@pytest.mark.diffspeed("compile", pipeline="fast_pipeline:make")
@pytest.mark.max_memory(0.9)
@pytest.mark.no_gpu_syncs()
def test_fast(optimized_pipeline): ...
"""


@pytest.mark.slow
def test_memory_is_refused_and_syncs_say_what_they_were_counted_with(
    repository, pytester, against_main, monkeypatch
):
    # The inner session's conftest changes the class of this very process: put back afterwards.
    monkeypatch.setattr(Compile, "backend", Compile.backend)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_fast=TEST, fast_pipeline=PIPELINE)
    repository.commit("The base")
    repository.git("switch", "--quiet", "--create", "change")
    repository.replace("fast_pipeline.py", '"steps": 2', '"steps": 2, "guidance": 5.0')
    result, against = against_main("--diffspeed-device=cpu", "-v")
    result.assert_outcomes(passed=1)
    memory = against["max_memory against base"]
    assert str(memory.verdict) == "NOT_APPLICABLE"
    assert "memory of compile cannot be counted without a GPU" in memory.reason
    syncs = against["no_gpu_syncs in scheduler.step against base"]
    assert str(syncs.verdict) == "PASS"
    assert syncs.figures["counted_with"] == "fp32"
    assert syncs.figures["not_applied"] == ["compile"]
    assert "counted with fp32: compile not applied" in syncs.figures["found"]
    assert "counted with fp32: compile not applied" in syncs.reason

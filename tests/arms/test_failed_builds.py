"""A stack that could not be proven leaves nothing behind that the next test would run."""

import pytest

PLANTED = """
from pytest_diffspeed.common.errors import NotEffectiveError
from pytest_diffspeed.techniques.technique import Family
from pytest_diffspeed.techniques.catalog.compile import Compile

class Eager(Compile):
    name = "compile_eager"
    backend = "eager"

class Broken(Eager):
    name = "compile_broken"

    def prove(self, pipeline, seen):
        raise NotEffectiveError("compile_broken: planted")

def pytest_diffspeed_techniques():
    return [Eager(), Broken()]
"""


@pytest.mark.usefixtures("verbose")
def test_what_a_failed_stack_compiled_is_forgotten(pytester, run_diffspeed):
    pytester.makeconftest(PLANTED)
    pytester.makepyfile(
        """
        import pytest
        import torch

        graphs = {}

        def count():
            return torch._dynamo.utils.counters["stats"]["unique_graphs"]

        @pytest.mark.diffspeed("compile_broken")
        def test_broken(optimized_pipeline): ...

        def test_between():
            graphs["before"] = count()

        @pytest.mark.diffspeed("compile_eager")
        def test_good(optimized_pipeline):
            assert count() - graphs.get("before", 0) == 2  # denoiser and decode, compiled anew
        """
    )
    source = "tests.compilation.small_pipeline:build"
    result = run_diffspeed("-p", "no:randomly", f"--diffspeed-pipeline={source}")
    result.assert_outcomes(errors=1, passed=2)
    result.stdout.fnmatch_lines(["*compile_broken: planted*"])

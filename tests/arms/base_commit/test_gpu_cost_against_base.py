"""A GPU cost against a base: counted in both trees, red with the line that the change brought."""

from pytest_diffspeed.records.verdict import VerdictKind
from tests.counting_gpu_cost import needs_counts
from tests.gates.planted_cast import PIPES, PLANTED, UNPLANTED

TEST = """
import pytest

@pytest.mark.diffspeed("bf16", pipeline="pipes:careful")
@pytest.mark.gpu_cost(over="base")
def test_cost(optimized_pipeline): ...
"""


@needs_counts
def test_a_base_is_counted_in_its_own_tree(pytester, repository, against_main):
    pytester.makepyfile(pipes=PIPES)
    pytester.makepyfile(TEST)
    repository.commit("before")
    repository.git("checkout", "--quiet", "-b", "change")
    repository.replace("pipes.py", UNPLANTED, PLANTED)
    _, gates = against_main()
    found = gates["gpu_cost of a step on a100 over base"]
    assert found.verdict is VerdictKind.FAIL
    assert "casts" in found.reason
    lines = (repository.path / "pipes.py").read_text().splitlines()
    assert found.cause.place == f"pipes.py:{lines.index(f'        {PLANTED}') + 1}"
    assert found.figures["gpu_cost"]["over"].startswith("main (")
    assert found.figures["against_base"]["rev"] == "main"

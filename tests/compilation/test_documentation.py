"""The code in docs/graph_breaks.md runs, and what it shows is what the report prints."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "graph_breaks.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.M | re.S)


def test_looking_without_pytest_runs_as_written(fresh_dynamo):
    (block,) = (block for block in BLOCKS if "find_graph_breaks" in block)
    shown = {}
    exec(compile(block, str(DOCS), "exec"), shown)
    assert (shown["report"].graphs, shown["report"].breaks) == (1, ())


def test_the_markers_are_accepted(pytester):
    (block,) = (block for block in BLOCKS if "no_recompiles" in block)
    pytester.makepyfile(test_it="import pytest\n" + block)
    outcome = pytester.runpytest_inprocess("--collect-only", "-q")
    outcome.stdout.fnmatch_lines(["test_it.py::test_structure[[]compile[]]"])
    assert outcome.ret == pytest.ExitCode.OK

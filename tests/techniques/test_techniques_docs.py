"""What docs/techniques.md says is what there is."""

import re
from pathlib import Path

import pytest

from pytest_diffspeed.techniques.registry import techniques

DOCS = (Path(__file__).parents[2] / "docs" / "techniques.md").read_text(encoding="utf-8")


def rows():
    table = DOCS.partition("## The table")[2].partition("\n## ")[0]
    cells = (re.split(r"\s*\|\s*", line.strip("| ")) for line in table.splitlines())
    return {row[0].strip("`"): row for row in cells if len(row) == 5 and row[0].startswith("`")}


def test_the_table_lists_every_technique_and_whether_it_can_be_undone():
    assert set(rows()) == set(techniques())
    for name, row in rows().items():
        assert row[4].startswith("yes") == techniques()[name].undoable


@pytest.mark.filterwarnings("ignore::pytest_diffspeed.techniques.technique.KnownSlowWarning")
@pytest.mark.parametrize("heading", ["Which layers int8 takes", "Less memory"])
def test_what_a_proof_says_of_the_demo(heading, capsys):
    part = DOCS.partition(f"## {heading}\n")[2]
    code, printed = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", part, re.S).groups()
    exec(compile(code, "docs/techniques.md", "exec"), {})
    assert capsys.readouterr().out == printed

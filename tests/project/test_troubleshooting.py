"""What ``docs/troubleshooting.md`` quotes stands in the package's source."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
CODE = re.compile(r"``\s?(.+?)\s?``(?!`)|`([^`]+)`")


def said(tree):
    """The texts in code, with … for what is put in; docstrings are none."""
    inner, docstrings = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner.update(map(id, node.values))
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docstrings.add(id(body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value if isinstance(part, ast.Constant) else "…" for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in inner | docstrings:
            yield str(node.value)


@pytest.fixture(scope="module")
def messages():
    paths = sorted((ROOT / "pytest_diffspeed").rglob("*.py"))
    return [text for path in paths for text in said(ast.parse(path.read_text("utf-8")))]


def quoted():
    """The messages that the page's tables begin with."""
    table_rows = [line for line in TROUBLES.splitlines() if line.startswith("| ")]
    cells = [line.split(" | ")[0] for line in table_rows]
    return [a or b for cell in cells for a, b in CODE.findall(cell)]


@pytest.mark.parametrize("message", quoted())
def test_a_message_that_is_explained_is_one_that_can_be_met(message, messages):
    parts = message.split("…")
    assert max(map(len, parts)) >= 9, "too little to find it by"
    pattern = re.compile(".*".join(map(re.escape, parts)), re.S)
    assert any(pattern.search(text) for text in messages)


def test_kinds_of_red_lines_are_those_that_there_are(messages):
    rows = TROUBLES.partition("## A gate is red")[2].splitlines()
    kinds = {
        kind for row in rows for kind in re.findall(r"[A-Z]{2,}(?: [A-Z]+)*", row.split(" | ")[0])
    }
    assert len(kinds) >= 15
    assert kinds - {text.upper() for text in messages} == set()

"""No code in the documents is only looked at: it runs in a test, or a comment says why not.

What may stand above a block, on the line before it, or, for all others, somewhere on its page:

    <!-- run by tests/syncs/test_it.py -->            that file reads the page's block and runs it
    <!-- not run: it takes a checkpoint -->           and why
    <!-- python here is run by tests/test_it.py -->   every block of that language on this page

Without one, tests with markers of ours are collected here, and the words of commands are looked up.
Blocks of text, JSON and XML are what is printed; pages that show a session have tests of their own.
"""

import argparse
import ast
import contextlib
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from pytest_diffspeed.commands.cli import main

ROOT = Path(__file__).parents[2]
PATHS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")]
PRINTED = {"text", "json", "xml"}
WHOLE_PAGE = re.compile(r"<!-- (\w+) here is (run by \S+) -->")
MARK = re.compile(r"<!-- (run by (?P<test>\S+\.py)|not run: (?P<why>.{10,})) -->")


class Block(NamedTuple):
    page: str
    number: int
    above: str
    kind: str
    text: str

    def __str__(self):
        return f"{self.page}-{self.number}-{self.kind or 'plain'}"


def blocks(page, text):
    """Every block of a page, with its mark or the last line above it that is not empty."""
    lines, found, above, number = text.splitlines(), [], "", 0
    everywhere = {kind: f"<!-- {mark} -->" for kind, mark in WHOLE_PAGE.findall(text)}
    while number < len(lines):
        opened = re.fullmatch(r"( *)(`{3,})(\w*)", lines[number])
        if opened:
            indent, fence, kind = opened.groups()
            end = lines.index(indent + fence, number + 1)
            inside = [line.removeprefix(indent) + "\n" for line in lines[number + 1 : end]]
            mark = above if MARK.search(above) else everywhere.get(kind, above)
            found.append(Block(page, number + 1, mark, kind, "".join(inside)))
            number = end
        elif lines[number].strip():
            above = lines[number].strip()
        number += 1
    return found


ALL = [
    block
    for path in sorted(PATHS)
    for block in blocks(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    if block.kind not in PRINTED
]
CONSOLE = [block for block in ALL if block.kind == "console"]
CODE = [block for block in ALL if block.kind != "console"]
MARKED = [block for block in CODE if MARK.search(block.above)]
PLAIN = [block for block in CODE if not MARK.search(block.above)]


def test_blocks_are_found_with_what_stands_above_them():
    page = "a\n<!-- not run: it takes a week -->\n\n```python\nx\n\ny\n```\n- b\n\n"
    assert blocks("p.md", page + "  ```text\n  z\n  ```\n") == [
        Block("p.md", 4, "<!-- not run: it takes a week -->", "python", "x\n\ny\n"),
        Block("p.md", 11, "- b", "text", "z\n"),
    ]
    page = "<!-- python here is run by tests/test_it.py -->\n```python\nx\n```\n```py\nx\n```\n"
    marks = [block.above for block in blocks("p.md", page)]
    assert marks == [
        "<!-- run by tests/test_it.py -->",
        "<!-- python here is run by tests/test_it.py -->",
    ]
    assert len(CODE) > 25
    assert len(CONSOLE) > 20


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_a_mark_tells_the_truth(block):
    """The test is there and reads the page; code that is not run is code all the same."""
    for path in re.findall(r"tests/[\w/]+(?:\.py)?", block.above):
        assert (ROOT / path).exists()
    test = MARK.search(block.above)["test"]
    if test is not None:
        assert Path(block.page).name in (ROOT / test).read_text("utf-8")
    if block.kind in ("python", "py") and not block.text.startswith(">>>"):
        ast.parse(block.text)


@pytest.mark.parametrize("block", PLAIN, ids=str)
def test_a_test_that_is_shown_collects(block, pytester):
    assert "@pytest.mark.diffspeed(" in block.text, "run it in a test and say which, or say why not"
    pytester.makepyfile(test_shown=f"import pytest\n{block.text}")
    result = pytester.runpytest_inprocess("--diffspeed", "--diffspeed-device=cpu", "--collect-only")
    assert result.ret == pytest.ExitCode.OK


def commands(block):
    lines = (line.strip() for line in block.text.splitlines())
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


def help_of(words, capsys):
    """What a command of ours says of itself, or of its subcommand."""
    for length in (2, 1):
        with contextlib.suppress(SystemExit, argparse.ArgumentError):
            main([*words[:length], "--help"])
        told = capsys.readouterr()
        if told.out:
            return told.out
    raise AssertionError(told.err)


@pytest.mark.parametrize("block", CONSOLE, ids=str)
def test_the_words_of_a_command_are_known(block, pytestconfig, capsys):
    known = {
        name
        for group in pytestconfig._parser._groups
        for option in group.options
        for name in option.names()
    }
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    found = commands(block)
    assert found, "a command begins with $"
    for words in found:
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if words[0] == "pytest" or words[1:3] == ["-m", "pytest"]:
            assert {word for word in options if "diffspeed" in word} - known == set()
        elif words[0] == "diffspeed":
            assert {
                option for option in options if option not in help_of(words[1:], capsys)
            } == set()
        elif words[0] == "make":
            assert words[1] in targets
        elif "/" in words[0]:
            assert (ROOT / words[0]).is_file()
        else:
            assert words[0] in {"git", "pip", "export", "pytest-benchmark"}

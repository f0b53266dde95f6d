"""The README's code runs, and what it says about options and markers is what there is."""

import re
from pathlib import Path

import pytest

import pytest_diffspeed
from pytest_diffspeed.plugin.public_names import FIXTURES, signatures
from pytest_diffspeed.techniques.registry import techniques

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


def block_with(text):
    (block,) = (block for block in BLOCKS if text in block)
    return block


def test_the_first_example_collects(pytester):
    pytester.makepyfile(test_fast=block_with("@pytest.mark.diffspeed"))
    outcome = pytester.runpytest_inprocess("--diffspeed", "--collect-only", "-q")
    outcome.stdout.fnmatch_lines(
        ["test_fast.py::test_fast[[]bf16[]]", "test_fast.py::test_fast[[]bf16+compile[]]"]
    )


def test_the_usage_error_is_the_one_shown(pytester):
    test = block_with("@pytest.mark.diffspeed")
    line = '@pytest.mark.min_speedup(2, over="fp23")\ndef test_fast'
    pytester.makepyfile(test_sdxl=test.replace("def test_fast", line))
    printed = " ".join(pytester.runpytest_inprocess().stdout.lines)
    shown = re.search(
        r"```text\n(test_sdxl.*?)```", README.read_text(encoding="utf-8"), re.S
    ).group(1)
    told = " ".join(shown.split()).partition(": test_fast: ")[2]
    assert told in printed


def test_measuring_two_functions_runs_as_written(libraries, capsys):
    exec(compile(block_with("measure_speedup"), str(README), "exec"), {})
    assert re.match(r"(PASS|FAIL|INCONCLUSIVE) \d+\.\d× ", capsys.readouterr().out)


def test_every_option_and_ini_value_is_documented(pytestconfig):
    text = README.read_text(encoding="utf-8")
    options = [
        name
        for group in pytestconfig._parser._groups
        for option in group.options
        for name in option.names()
        if "diffspeed" in name
    ]
    assert len(options) >= 9
    assert [name for name in options if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", [*FIXTURES, *techniques()])
def test_every_fixture_and_technique_is_documented(name):
    assert f"| `{name}` |" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", signatures())
def test_every_marker_is_documented(name):
    assert f"| `{name}(" in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in pytest_diffspeed.__all__ if n[0].islower()])
def test_every_public_function_is_documented(name):
    assert f"| `{name}(" in README.read_text(encoding="utf-8")

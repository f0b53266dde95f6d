"""The README and the documents: their code runs, and what they list is what there is."""

import re
from pathlib import Path

import pytest

import pytest_diffspeed
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.plugin.public_names import FIXTURES, signatures
from pytest_diffspeed.techniques.registry import techniques

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("examples/*/*.md")]
}
README = PAGES["README.md"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
MOST_WORDS = 900


def block_with(text, page):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGES[page], re.M | re.S)
    (block,) = (block for block in blocks if text in block)
    return block


def anchors(text):
    """The places of a page, as GitHub names them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_is_read_to_its_end():
    assert len(README.split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_project_leads_somewhere(page):
    lost = []
    for target in LINK.findall(PAGES[page]):
        path, _, anchor = target.partition("#")
        if "://" in target:
            continue
        found = (ROOT / page).parent / path if path else ROOT / page
        leads = found.exists() and (not anchor or anchor in anchors(found.read_text("utf-8")))
        if not leads:
            lost.append(target)
    assert lost == []


def test_the_map_has_every_page():
    named = {target.partition("#")[0] for target in LINK.findall(PAGES["docs/index.md"])}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages - named == set()


def test_the_first_example_collects(pytester):
    pytester.makepyfile(test_fast=block_with("@pytest.mark.diffspeed", "README.md"))
    outcome = pytester.runpytest_inprocess("--diffspeed", "--collect-only", "-q")
    outcome.stdout.fnmatch_lines(
        ["test_fast.py::test_fast[[]bf16[]]", "test_fast.py::test_fast[[]bf16+compile[]]"]
    )


def test_the_usage_error_is_the_one_shown(pytester):
    test = block_with("@pytest.mark.diffspeed", "README.md")
    line = '@pytest.mark.min_speedup(2, over="fp23")\ndef test_fast'
    pytester.makepyfile(test_sdxl=test.replace("def test_fast", line))
    printed = " ".join(pytester.runpytest_inprocess().stdout.lines)
    shown = re.search(r"```text\n(test_sdxl.*?)```", PAGES["docs/markers.md"], re.S).group(1)
    told = " ".join(shown.split()).partition(": test_fast: ")[2]
    assert told in printed


def test_measuring_two_functions_runs_as_written(libraries, capsys):
    page = "docs/python_api.md"
    exec(compile(block_with("measure_speedup", page), page, "exec"), {})
    assert re.match(r"(PASS|FAIL|INCONCLUSIVE) \d+\.\d× ", capsys.readouterr().out)


def test_a_pipeline_is_loaded_and_optimized_as_written(libraries, capsys):
    code = block_with("load_pipeline", "docs/python_api.md")
    with third_party():
        exec(compile(code, "docs/python_api.md", "exec"), {})
    assert "channels_last: " in capsys.readouterr().out


def test_every_option_and_ini_value_is_documented(pytestconfig):
    options = [
        name
        for group in pytestconfig._parser._groups
        for option in group.options
        for name in option.names()
        if "diffspeed" in name
    ]
    assert len(options) >= 9
    assert [name for name in options if f"`{name}`" not in PAGES["docs/options.md"]] == []


@pytest.mark.parametrize("name", FIXTURES)
def test_every_fixture_is_documented(name):
    assert f"| `{name}` |" in PAGES["docs/markers.md"]


@pytest.mark.parametrize("name", techniques())
def test_every_technique_is_documented(name):
    assert f"| `{name}` |" in PAGES["docs/techniques.md"]


@pytest.mark.parametrize("name", signatures())
def test_every_marker_is_documented(name):
    assert f"| `{name}(" in PAGES["docs/markers.md"]


def test_every_public_error_is_documented():
    named = {name for name in pytest_diffspeed.__all__ if name.endswith(("Error", "Warning"))}
    text = PAGES["docs/python_api.md"]
    assert {name for name in named if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("name", [n for n in pytest_diffspeed.__all__ if n[0].islower()])
def test_every_public_function_is_documented(name):
    assert f"| `{name}(" in PAGES["docs/python_api.md"]

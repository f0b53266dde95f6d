"""What the docs and ``pyproject.toml`` say of versions is what really ran."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pytest_diffspeed.adapters import tested
from pytest_diffspeed.simgpu import torch_private

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest needs it there

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools/versions"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture
def tool(monkeypatch):
    """The modules of ``make test-versions``."""
    monkeypatch.syspath_prepend(str(TOOL))
    import environments
    import making
    import suite
    import table

    yield {"environments": environments, "making": making, "suite": suite, "table": table}
    for name in ("environments", "making", "suite", "table"):
        del sys.modules[name]


@pytest.fixture
def results(tool):
    return tool["table"].read()


def test_the_table_in_the_docs_shows_the_committed_results(tool, results):
    table = tool["table"]
    page = table.PAGE.read_text("utf-8")
    assert page == table.with_table(page, table.table(results)), (
        "docs/versions.md is not what docs/versions.jsonl says; run `make test-versions`"
    )


@pytest.fixture
def green(results):
    return {name: result for name, result in results.items() if result["status"] == "green"}


@pytest.fixture
def all_ran(tool, green):
    """Whether every environment ran green; until then the page must say loudly that they did not,
    and what it and ``pyproject.toml`` name are claims.
    """
    missing = [one.name for one in tool["environments"].ENVIRONMENTS if one.name not in green]
    assert (NOT_BACKED in tool["table"].PAGE.read_text("utf-8")) == bool(missing), missing
    return not missing


NOT_BACKED = "**Not every environment below has run to its end"


def test_the_page_says_what_has_not_run(all_ran):
    assert all_ran in (True, False)  # the fixture holds the page against the results


@pytest.mark.parametrize("dependency", PROJECT["dependencies"])
def test_a_lower_bound_is_the_version_that_ran(dependency, green, all_ran):
    requirement = Requirement(dependency)
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    name = re.sub(r"[-_.]+", "-", requirement.name).lower()
    if all_ran or "lowest" in green:
        assert Version(green["lowest"]["versions"][name]) == Version(bound.version)


def test_the_lowest_python_is_the_one_that_ran(green, all_ran):
    assert PROJECT["requires-python"].startswith(">=")
    if all_ran or "lowest" in green:
        ran = ".".join(green["lowest"]["versions"]["python"].split(".")[:2])
        assert PROJECT["requires-python"] == f">={ran}"


def test_classifiers_name_the_pythons_that_tests_run_on(tool):
    start = "Programming Language :: Python :: 3."
    named = {one.rpartition(" ")[2] for one in PROJECT["classifiers"] if one.startswith(start)}
    environments = tool["environments"]
    ordinary = environments.ORDINARY_PYTHON
    assert named == {ordinary, *(one.python for one in environments.ENVIRONMENTS)}
    assert f"on Python {ordinary} with the newest torch" in tool["table"].PAGE.read_text("utf-8")


def test_errors_name_the_versions_that_ran(results, all_ran):
    def ran(name):
        versions = sorted(Version(result["versions"][name]) for result in results.values())
        return " to ".join(f"{one.major}.{one.minor}" for one in (versions[0], versions[-1]))

    assert torch_private.TESTED == tested.TORCH
    if all_ran:
        assert ran("torch") == tested.TORCH
        assert ran("diffusers") == tested.DIFFUSERS
        assert ran("torchao") == tested.TORCHAO


def test_outcomes_are_read_from_junit(tool, tmp_path):
    report = tmp_path / "junit.xml"
    report.write_text(
        "<testsuites><testsuite>"
        '<testcase classname="a" name="fine"/>'
        '<testcase classname="a" name="fell"><failure message="no"/></testcase>'
        # An error after the test: the same name twice.
        '<testcase classname="a" name="torn"/>'
        '<testcase classname="a" name="torn"><error message="no"/></testcase>'
        '<testcase classname="a" name="left"><skipped message="no server"/></testcase>'
        "</testsuite></testsuites>"
    )
    suite = tool["suite"]
    assert suite.summary(suite._read(report)) == {
        "passed": 1,
        "failed": 2,
        "skipped": 1,
        "fell": ["a::fell", "a::torn"],
        "skip_reasons": {"no server": 1},
    }


def test_an_interpreter_that_is_absent_is_said(tool, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    making = tool["making"]
    with pytest.raises(making.CannotRun, match=r"^no Python 3\.99 on this machine"):
        making.find_interpreter("3.99")


def test_an_environment_that_is_not_run_stands_in_the_table(tool):
    table = tool["table"]
    text = table.table(
        {"newest": {"status": "not run", "date": "2026-01-01", "why": "no Python 3.13"}}
    )
    assert "| `newest` | not run on 2026-01-01: no Python 3.13 |" in text
    assert "| `lowest` | never |" in text


def test_an_unknown_environment_is_one_sentence():
    answer = subprocess.run(
        [sys.executable, str(TOOL), "oldest"], check=False, capture_output=True, text=True
    )
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].endswith(
        "error: no environment is called 'oldest'; valid: lowest, torch-2.11, newest"
    )

"""What a release takes beside the package: version, changelog, forms, checks of what is built."""

import re
import sys
from pathlib import Path

import pytest
import yaml

import pytest_diffspeed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest needs it there

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_version_stands_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    versions = {pytest_diffspeed.__version__, PROJECT["project"]["version"], citation["version"]}
    assert len(versions) == 1
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_changelog_begins_with_what_is_not_released():
    heads = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert heads[0] == "[Unreleased]"
    released = re.compile(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
    assert [head for head in heads[1:] if not released.fullmatch(head)] == []


def test_the_changelog_says_each_kind_of_change_once():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for version in re.split(r"^## ", text, flags=re.M)[1:]:
        kinds = re.findall(r"^### (.+)$", version, re.M)
        assert len(set(kinds)) == len(kinds)
        assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_built_distributions_are_checked():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (steps,) = re.findall(r"^build:.*\n((?:\t.*\n)+)", makefile, re.M)
    assert "twine check --strict dist/*" in steps
    assert "check-wheel-contents dist/*.whl" in steps
    tools = " ".join(PROJECT["project"]["optional-dependencies"]["dev"])
    assert "twine" in tools and "check-wheel-contents" in tools


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_for_what_is_needed(form):
    read = yaml.safe_load(form.read_text("utf-8"))
    if form.stem == "config":
        assert read == {"blank_issues_enabled": True}
        return
    assert {"name", "description", "body"} <= set(read)
    fields = [one for one in read["body"] if one["type"] != "markdown"]
    assert len({one["id"] for one in fields}) == len(fields)
    assert all("label" in one["attributes"] for one in fields)
    assert any(one.get("validations", {}).get("required") for one in fields)


def test_the_form_of_a_wrong_verdict_has_every_gate():
    from pytest_diffspeed.gates.signatures import signatures

    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/false_verdict.yml").read_text("utf-8"))
    (gate,) = (one for one in form["body"] if one.get("id") == "gate")
    options = " ".join(gate["attributes"]["options"])
    assert [name for name in signatures() if name not in options] == []

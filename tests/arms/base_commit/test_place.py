"""Where the base's workers run, and what they can import."""

import json
import os
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.arms.base_commit.place import base_place
from pytest_diffspeed.arms.worker.imports import assert_not_imported, drop_from_path
from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.common.git import git

TOP, TREE = Path("/nowhere/project"), Path("/elsewhere/project")
ENTRIES = [
    "",
    "/nowhere/project/src",
    "/nowhere/project/.venv/lib/python3.11/site-packages",
    "/usr/lib/python3.11",
    "/nowhere/project/src",
]


def place(**changes):
    how = {
        "top": TOP,
        "tree": TREE,
        "python": None,
        "entries": ENTRIES,
        "cwd": TOP / "tests",
        "prefix": "/nowhere/project/.venv",
    }
    return base_place(**{**how, **changes})


def test_this_tree_becomes_the_base_s_and_packages_stay():
    made = place()
    assert made.python == sys.executable
    assert made.folder == TREE / "tests"
    assert made.path == (
        "/elsewhere/project/tests",
        "/elsewhere/project/src",
        "/nowhere/project/.venv/lib/python3.11/site-packages",
        "/usr/lib/python3.11",
    )
    assert (made.root, made.not_from) == (TREE, TOP)


def test_another_environment_brings_its_own_packages():
    made = place(python="/base/bin/python")
    assert made.python == "/base/bin/python"
    assert made.path == ("/elsewhere/project/tests", "/elsewhere/project/src")


def test_the_same_tree_in_another_environment():
    made = place(tree=None, python="/base/bin/python")
    assert made.path == ("/nowhere/project/tests", "/nowhere/project/src")
    assert (made.folder, made.root, made.not_from) == (TOP / "tests", TOP, None)


def test_an_environment_around_the_project_says_nothing_of_what_lies_in_it():
    """As ``/usr`` is around ``/usr/src/app``, and a virtual environment at the project's top."""
    for prefix in ("/nowhere", "/nowhere/project"):
        assert place(entries=["", "/nowhere/project/src"], prefix=prefix).path == (
            "/elsewhere/project/tests",
            "/elsewhere/project/src",
        )


def test_started_from_outside_the_project():
    assert place(cwd=Path("/nowhere")).folder == TREE


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of this tree, importable."""
    (tmp_path / "of_this_tree.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield "of_this_tree"
    sys.modules.pop("of_this_tree", None)


def test_a_module_of_this_tree_is_out_of_reach(module, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    drop_from_path(tmp_path)
    assert not any(Path(entry).is_relative_to(tmp_path) for entry in sys.path if entry)
    with pytest.raises(ModuleNotFoundError):
        __import__(module)
    assert_not_imported(tmp_path)


def test_a_module_that_an_import_hook_found_all_the_same_is_named(module, tmp_path):
    __import__(module)
    with pytest.raises(MeasurementError) as error:
        assert_not_imported(Path(os.path.realpath(tmp_path)))
    assert str(error.value).startswith(f"the base imported of_this_tree from {tmp_path}, which is ")


def test_a_tree_inside_this_environment_is_out_of_reach_too(module, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "prefix", str(tmp_path.parent))
    drop_from_path(tmp_path)
    assert str(tmp_path) not in sys.path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A module as pip leaves it that installed it from ``url``."""
    site = tmp_path / "env/site-packages"
    about = site / "brush-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "brush.py").write_text("")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brush\nVersion: 1.0\n")
    (about / "RECORD").write_text("brush.py,,\n")
    monkeypatch.syspath_prepend(site)

    def install(url):
        (about / "direct_url.json").write_text(json.dumps({"url": url}))
        __import__("brush")

    yield install
    sys.modules.pop("brush", None)


def test_a_package_built_from_this_tree_is_refused(installed, tmp_path):
    """Installed, and not in editable mode: both arms would import this tree's copy of it."""
    tree = tmp_path / "project"
    tree.mkdir()
    installed(tree.as_uri())
    with pytest.raises(MeasurementError, match="the base imported brush as they were installed"):
        assert_not_imported(tree)
    assert_not_imported(
        tree, shared=False
    )  # the base's own environment may have been made from there
    assert_not_imported(tmp_path / "another")


def test_a_wheel_that_the_repository_keeps_is_a_dependency(installed, tmp_path):
    tree = tmp_path / "project"
    (tree / "dist").mkdir(parents=True)
    wheel = tree / "dist/brush-1.0-py3-none-any.whl"
    wheel.touch()
    installed(wheel.as_uri())
    git(tree, "init", "--quiet")
    with pytest.raises(MeasurementError, match="the base imported brush"):
        assert_not_imported(tree)
    git(tree, "add", "--all")
    assert_not_imported(tree)

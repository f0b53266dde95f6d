"""Where the base's workers run, and what they can import."""

import os
import sys
from pathlib import Path

import pytest

from pytest_diffspeed.base.place import base_place
from pytest_diffspeed.errors import MeasurementError
from pytest_diffspeed.worker.imports import leave, require_left

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
    leave(tmp_path)
    assert not any(Path(entry).is_relative_to(tmp_path) for entry in sys.path if entry)
    with pytest.raises(ModuleNotFoundError):
        __import__(module)
    require_left(tmp_path)


def test_a_module_that_an_import_hook_found_all_the_same_is_named(module, tmp_path):
    __import__(module)
    with pytest.raises(MeasurementError) as error:
        require_left(Path(os.path.realpath(tmp_path)))
    assert str(error.value).startswith(f"the base imported of_this_tree from {tmp_path}, which is ")

"""What runs from outside the working tree is part of what a verdict is about."""

import subprocess
import sys
import types

import pytest

import pytest_diffspeed
from pytest_diffspeed.evidence.loaded_code import CodeBesideTheTree


def module_in(path, text="SPEED = 1\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    made = types.ModuleType(path.stem)
    made.__file__ = str(path)
    return made


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    (root / ".gitignore").write_text("generated/\n")
    return root


def seen(root, *modules):
    """By name, without this package itself."""
    found = CodeBesideTheTree(root).as_dict({one.__name__: one for one in modules})
    return {n: c for n, c in found["modules"].items() if n != pytest_diffspeed.__name__}


def test_a_module_from_elsewhere_counts_by_its_content(project, tmp_path):
    outside = module_in(tmp_path / "elsewhere" / "factory.py")
    first = seen(project, outside)
    assert set(first) == {"factory"}
    assert seen(project, module_in(tmp_path / "other_place" / "factory.py")) == first
    assert seen(project, module_in(tmp_path / "elsewhere" / "factory.py", "SPEED = 2\n")) != first


def test_what_the_tree_holds_or_a_version_says_is_left_out(project, tmp_path):
    tracked = module_in(project / "kernel.py")
    installed = module_in(tmp_path / "lib" / "site-packages" / "fast.py")
    built_in = types.ModuleType("built_in")
    gone = module_in(tmp_path / "gone.py")
    (tmp_path / "gone.py").unlink()
    assert seen(project, tracked, installed, built_in, gone, sys, subprocess, pytest) == {}


def test_a_module_that_git_ignores_is_not_in_the_tree(project):
    assert set(seen(project, module_in(project / "generated" / "ops.py"))) == {"ops"}


def test_without_git_the_tree_is_what_lies_below_the_rootdir(tmp_path):
    root = tmp_path / "plain"
    modules = (module_in(root / "kernel.py"), module_in(tmp_path / "beside.py"))
    assert set(seen(root, *modules)) == {"beside"}


def test_an_edit_made_meanwhile_is_not_what_runs(project, tmp_path):
    code = CodeBesideTheTree(project)
    modules = {"factory": module_in(tmp_path / "factory.py")}
    first = code.as_dict(modules)
    module_in(tmp_path / "factory.py", "SPEED = 2\n")
    assert code.as_dict(modules) == first
    assert CodeBesideTheTree(project).as_dict(modules) != first


def test_every_installed_distribution_counts(project, tmp_path, monkeypatch):
    def installed():
        return CodeBesideTheTree(project).as_dict({})["installed"]

    before = installed()
    monkeypatch.syspath_prepend(tmp_path)
    about = tmp_path / "fast_ops-1.0.dist-info" / "METADATA"
    about.parent.mkdir()
    digests = {before}
    for version in ("1.0", "1.1"):
        about.write_text(f"Metadata-Version: 2.1\nName: fast-ops\nVersion: {version}\n")
        digests.add(installed())
    assert len(digests) == 3

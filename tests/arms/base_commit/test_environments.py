"""A dependency upgrade: the same commit in two virtual environments that differ in one package."""

import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from pytest_diffspeed.arms.base_commit.base import Base
from pytest_diffspeed.arms.base_commit.environment import versions_of
from pytest_diffspeed.records.reader import read_journal

PIPELINE = """
import brush
from diffusers import EulerDiscreteScheduler
from pytest_diffspeed.pipelines import random_weights


class Scheduler(EulerDiscreteScheduler):
    def step(self, *given, **more):
        brush.rinse()
        return super().step(*given, **more)


def make():
    pipe = random_weights.build("sdxl-tiny")
    pipe.scheduler = Scheduler.from_config(pipe.scheduler.config)
    return pipe


make.call_defaults = {"steps": 1}
"""
TEST = """
import pytest

@pytest.mark.diffspeed("channels_last", pipeline="fast_pipeline:make")
@pytest.mark.max_slowdown(50, over="base")
def test_fast(optimized_pipeline): ...
"""
WORDS = ("--diffspeed-device=cpu", "--diffspeed-instances=1", "--diffspeed-json=out.jsonl")


def environment(folder, version, wait_s):
    """A virtual environment with all that this one has, and ``brush``."""
    venv.create(folder / "env", symlinks=True)
    (own,) = (folder / "env").glob("lib/python*/site-packages")
    (own / "all_of_ours.pth").write_text("\n".join(site.getsitepackages()))
    (own / "brush").mkdir()
    (own / "brush/__init__.py").write_text(
        f"import time\n\n\ndef rinse():\n    time.sleep({wait_s})\n"
    )
    listed = own / f"brush-{version}.dist-info"  # what an installer leaves behind
    listed.mkdir()
    (listed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: brush\nVersion: {version}\n")
    return folder / "env/bin/python"


@pytest.mark.slow
def test_an_upgrade_that_makes_a_pipeline_slower_fails(tmp_path, private_temp):
    old = environment(tmp_path / "old", "1.0", 0.1)
    new = environment(tmp_path / "new", "2.0", 0.5)
    project = tmp_path / "project"
    project.mkdir()
    (project / "fast_pipeline.py").write_text(PIPELINE)
    (project / "test_fast.py").write_text(TEST)
    done = subprocess.run(
        [new, "-m", "pytest", "--diffspeed", f"--diffspeed-base-python={old}", *WORDS],
        cwd=project,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    told = read_journal(project / "out.jsonl")
    (gate,) = told.gates
    assert str(gate.result.verdict) == "FAIL"
    assert gate.result.figures["ratio"] < 0.67
    about = told.about["base"]
    assert (about["commit"], about["python"]) == (None, str(old))
    assert about["environment"]["torch"] == told.about["environment"]["torch"]


def test_a_verdict_is_one_of_these_packages_only(tmp_path):
    """Another version of a small package, in either environment, is another question."""
    base = Base(tmp_path, None, sys.executable)
    about = base.environment["installed"]
    assert base.identity()["installed_here"] == about  # the same interpreter, asked twice
    site_packages = tmp_path / "site"
    (site_packages / "brush-1.0.dist-info").mkdir(parents=True)
    (site_packages / "brush-1.0.dist-info/METADATA").write_text("Name: brush\nVersion: 1.0\n")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={site_packages} exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    assert versions_of(str(program))["installed"] != about

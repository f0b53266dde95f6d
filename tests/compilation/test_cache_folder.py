"""Compile caches between jobs: keyed by what makes them valid, and really taken from the folder."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.compilation.cache_folder import FOLDER_VARIABLE, CompileCache, conditions

HERE = {"torch": "2.13.0+cpu (5c48869080)", "Python": "3.11", "processor": "A"}


@pytest.mark.parametrize("changed", HERE)
def test_each_condition_has_a_cache_of_its_own(tmp_path, changed):
    first = CompileCache(tmp_path, HERE)
    second = CompileCache(tmp_path, {**HERE, changed: "2.99 (other)"})
    assert first.folder != second.folder
    assert first.folder.parent == second.folder.parent == tmp_path
    assert CompileCache(tmp_path, dict(reversed(HERE.items()))).folder == first.folder
    assert first.key.startswith("torch-2.13.0+cpu-")


def test_the_conditions_are_those_of_this_machine(libraries):
    found = conditions(resolve_device("cpu"), "3.5.0")
    assert set(found) == {"torch", "Python", "system", "processor", "instructions", "triton"}
    assert all(found.values())
    assert found == conditions(resolve_device("cpu"), "3.5.0")
    assert "triton" not in conditions(resolve_device("cpu"), None)


def test_the_folder_is_inductors_while_it_is_in_use_and_then_no_more(tmp_path, monkeypatch):
    cache = CompileCache(tmp_path / "new", HERE)
    for before in ("/elsewhere", None):
        if before is None:
            monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
        else:
            monkeypatch.setenv(FOLDER_VARIABLE, before)
        with cache.used():
            assert os.environ[FOLDER_VARIABLE] == str(cache.folder)
        assert os.environ.get(FOLDER_VARIABLE) == before
    assert json.loads((cache.folder / "conditions.json").read_text("utf-8")) == HERE


def test_what_was_found_is_said(tmp_path):
    cache = CompileCache(tmp_path, HERE)
    assert cache.found() == "nothing kept yet"
    for theirs in ({**HERE, "Python": "3.10"}, {**HERE, "Python": "3.9", "processor": "B"}):
        with CompileCache(tmp_path, theirs).used():
            pass
    (tmp_path / "no-cache").mkdir()
    (tmp_path / "no-cache" / "conditions.json").write_text("[", encoding="utf-8")
    assert cache.found() == (
        "nothing kept yet for this environment; the nearest one has Python 3.10 (here 3.11)"
    )
    with cache.used():
        (cache.folder / "kernel.so").write_bytes(bytes(1_500_000))
    assert cache.found() == "1.5 MB from earlier sessions"


PROGRAM = """
import json, sys
from pathlib import Path
import torch
from pytest_diffspeed.compilation.cache_folder import CompileCache
with CompileCache(Path(sys.argv[1]), {"processor": sys.argv[2]}).used(), torch.no_grad():
    torch.compile(lambda x: torch.softmax(x * 2, 1))(torch.ones(4, 8))
counts = torch._dynamo.utils.counters["inductor"]
print(json.dumps([counts["fxgraph_cache_hit"], counts["fxgraph_cache_miss"]]))
"""


@pytest.mark.slow
def test_another_process_takes_it_from_there_even_if_the_folder_moved(tmp_path):
    """Real inductor, a fresh process each: what a second CI job does."""

    def job(folder, processor="A"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(folder), processor],
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])

    def libraries_in(folder):
        return {path.name for path in folder.rglob("*.so")}

    first, second = tmp_path / "first", tmp_path / "second"
    assert job(first) == [0, 1]
    built = libraries_in(first)
    assert built
    shutil.move(first, second)
    assert job(second) == [1, 0]
    assert libraries_in(second) == built  # nothing was built again
    assert job(second, processor="B") == [0, 1]  # kept for another processor: not taken


SUITE = """
import pytest

@pytest.mark.diffspeed("channels_last")
@pytest.mark.no_graph_breaks(components=["denoiser"])
def test_structure(optimized_pipeline): ...
"""


def test_a_session_says_which_cache_it_used(pytester, run_diffspeed, monkeypatch, fresh_dynamo):
    monkeypatch.setenv(FOLDER_VARIABLE, "/elsewhere")
    pytester.makepyfile(test_it=SUITE)
    source = "--diffspeed-pipeline=small_pipeline:build"
    outcome = run_diffspeed(source, "--diffspeed-compile-cache=kept")
    outcome.assert_outcomes(passed=1)
    outcome.stdout.fnmatch_lines(
        [
            "diffspeed: compile cache */kept/torch-*: nothing kept yet",
            "compile cache */kept/torch-*: nothing kept yet; 0.0 MB now",
        ]
    )
    assert os.environ[FOLDER_VARIABLE] == "/elsewhere"
    (folder,) = (pytester.path / "kept").iterdir()
    (folder / "kernel.so").write_bytes(bytes(2_000_000))
    pytester.makeini("[pytest]\ndiffspeed_compile_cache = kept\n")
    outcome = run_diffspeed(source)
    outcome.stdout.fnmatch_lines(["*compile cache *: 2.0 MB from earlier sessions; 2.0 MB now"])


@pytest.mark.parametrize("where", ["option", "ini"])
def test_what_is_no_folder_is_a_usage_error(pytester, run_diffspeed, where):
    pytester.makepyfile(test_it=SUITE)
    if where == "ini":
        pytester.makeini("[pytest]\ndiffspeed_compile_cache = test_it.py\n")
        outcome = run_diffspeed()
        told = "diffspeed_compile_cache in *tox.ini"
    else:
        outcome = run_diffspeed("--diffspeed-compile-cache=test_it.py")
        told = "--diffspeed-compile-cache"
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines([f"*{told}: must be a folder * not 'test_it.py'"])


def test_a_path_with_blanks_is_a_usage_error(pytester, run_diffspeed):
    """With one, g++ takes the first half of the path for a file of its own, and fails."""
    pytester.makepyfile(test_it=SUITE)
    outcome = run_diffspeed("--diffspeed-compile-cache=two words")
    assert outcome.ret == pytest.ExitCode.USAGE_ERROR
    outcome.stderr.fnmatch_lines(["*-compile-cache: must be a folder without blanks in its path*"])


def test_caches_that_are_switched_off_are_a_usage_error(pytester, run_diffspeed):
    import torch._inductor.config as settings

    pytester.makepyfile(test_it=SUITE)
    for name in ("force_disable_caches", "fx_graph_cache"):
        with settings.patch({name: name.startswith("force")}):
            outcome = run_diffspeed("--diffspeed-compile-cache=kept")
        assert outcome.ret == pytest.ExitCode.USAGE_ERROR
        outcome.stderr.fnmatch_lines(["*--diffspeed-compile-cache: *so nothing would be kept*"])

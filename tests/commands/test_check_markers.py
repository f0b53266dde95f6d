"""``diffspeed check-markers``, and the hook of pre-commit that calls it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
GOOD = """
import pytest

@pytest.mark.diffspeed("bf16", "bf16+compile")
@pytest.mark.min_speedup(1.5, stack="bf16+compile")
def test_fast(optimized_pipeline): ...

def test_plain(): ...
"""
BAD = GOOD.replace('stack="bf16+compile"', 'over="fp23"')
STRAY = "\nimport pytest\n\n@pytest.mark.no_graph_breaks()\ndef helper(optimized_pipeline): ...\n"


def run_hook(folder, environment=None, **files):
    """The hook's own command on these files; its status and what it printed."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    program, *words = shlex.split(HOOK["entry"])
    assert program == "diffspeed"
    code = (
        "import sys; from pytest_diffspeed.commands.cli import main\n"
        "status = main(sys.argv[1:]); print(sorted({'torch', 'numpy'} & set(sys.modules)))\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words, *(f"{name}.py" for name in files)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_good_markers_pass_without_torch(tmp_path):
    status, said = run_hook(tmp_path, test_good=GOOD, test_none="X = 1\n")
    assert (status, said) == (
        0,
        "2 tests with markers or fixtures of diffspeed: they make sense\n[]\n",
    )


def test_it_runs_in_a_job_whose_gates_must_run(tmp_path):
    status, said = run_hook(tmp_path, {**os.environ, "DIFFSPEED_CI": "1"}, test_good=GOOD)
    assert status == 0, said


def test_a_bad_marker_fails_with_its_line_and_the_nearest_word(tmp_path):
    status, said = run_hook(tmp_path, test_bad=BAD, test_good=GOOD)
    assert status == 1
    assert re.search(r"test_bad\.py:\d+: test_fast: min_speedup.*did you mean 'fp32'", said)
    assert said.endswith("[]\n")


@pytest.mark.parametrize(
    ("text", "said"), [(STRAY, "is no test that pytest collects"), ("import absent\n", "absent")]
)
def test_what_cannot_be_checked_is_red(tmp_path, text, said):
    status, printed = run_hook(tmp_path, test_it=text)
    assert status == 1
    assert said in printed


def test_without_the_plugin_nothing_is_called_good(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:diffspeed\n")
    status, said = run_hook(tmp_path, test_plain="def test_plain(): ...\n")
    assert status == 2
    assert "no marker was checked" in said


def test_the_hook_is_for_test_files():
    files = re.compile(HOOK["files"])
    assert all(map(files.search, ("test_fast.py", "tests/gpu/test_fast.py", "fast_test.py")))
    assert not any(map(files.search, ("conftest.py", "contest_x.py", "test_fast.txt")))


def test_the_hook_of_the_documents_is_this_one():
    page = (ROOT / "docs" / "ci.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(# \.pre-commit-config.*?)^```", page, re.M | re.S)
    ((local,),) = [one["hooks"] for one in yaml.safe_load(block)["repos"]]
    assert local == {key: value for key, value in HOOK.items() if key != "description"}

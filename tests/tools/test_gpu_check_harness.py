"""The check of the CUDA side: what it writes, whatever its parts do.  Parts here are made up."""

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "gpu_check"

PARTS = """
    from __future__ import annotations
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Entry:
        key: str
        module: str
        title: str
        limit_s: float
        dry_limit_s: float
        alone: bool = False

    PARTS = ({entries})
"""


@pytest.fixture
def tool(tmp_path):
    """A copy of the tool with parts of the test's own: ``tool(name=(limit, source), …)``."""

    def make(**parts):
        folder = tmp_path / "gpu_check"
        shutil.copytree(TOOL, folder, ignore=shutil.ignore_patterns("parts", "results"))
        (folder / "parts").mkdir()
        entries = ""
        for key, (limit, source) in zip("abcdefg", parts.values(), strict=False):
            name = list(parts)["abcdefg".index(key)]
            entries += f"Entry('{key}', '{name}', 'part {name}', {limit}, {limit}), "
            (folder / "parts" / f"{name}.py").write_text(dedented(source))
        (folder / "parts" / "__init__.py").write_text(dedented(PARTS.format(entries=entries)))
        return folder

    return make


def dedented(source):
    import textwrap

    return textwrap.dedent(source)


def run(folder, out, *words):
    return subprocess.run(
        [sys.executable, str(folder), "--device", "cpu", "--out", str(out), *words],
        capture_output=True,
        text=True,
        timeout=120,
    )


def checks(out):
    sys.path.insert(0, str(TOOL))
    try:
        from checks import checks_of, read
    finally:
        sys.path.remove(str(TOOL))
    return checks_of(read(out / "results.jsonl"))


def verdicts(out):
    return {(check["part"], check["check"]): check["verdict"] for check in checks(out)}


ANSWERS = """
    from checks import NoMeaning

    def run(part):
        part.plan(["right", "wrong", "raises", "figure", "absent", "forgotten", "never"])
        with part.check("right", "1") as check:
            check.expect(True, "1", value=1)
        with part.check("wrong", "1") as check:
            check.expect(part.planted, "2")
        with part.check("raises", "1") as check:
            raise ValueError("a reason\\nand more")
        with part.check("figure") as check:
            check.record("5 ms", seconds=[0.005])
        with part.check("absent", "1") as check:
            raise NoMeaning("no GPU here")
        with part.check("forgotten", "1"):
            pass
"""
HANGS = """
    import subprocess, sys, time

    def run(part):
        part.plan(["first", "second"])
        with part.check("first", "yes") as check:
            check.expect(True, "yes")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        print("child", child.pid, flush=True)
        time.sleep(600)
"""
DIES = """
    import os

    def run(part):
        with part.check("before", "yes") as check:
            check.expect(True, "yes")
        os._exit(3)
"""


def test_every_kind_of_answer_is_told_apart_and_no_part_hides_another(tool, tmp_path):
    folder, out = tool(answers=(60, ANSWERS), hangs=(4, HANGS), dies=(60, DIES)), tmp_path / "out"
    done = run(folder, out)
    assert done.returncode == 1, done.stderr
    assert verdicts(out) == {
        ("a", "right"): "as expected",
        ("a", "wrong"): "differs",
        ("a", "raises"): "error",
        ("a", "figure"): "recorded",
        ("a", "absent"): "no meaning here",
        ("a", "forgotten"): "error",
        ("a", "never"): "not reached",
        ("b", "first"): "as expected",
        ("b", "second"): "not reached",
        ("c", "before"): "as expected",
        ("c", "(end of this part)"): "error",
    }
    found = {(check["part"], check["check"]): check["found"] for check in checks(out)}
    assert found["a", "raises"] == "ValueError: a reason"
    assert found["a", "never"] == "the part ended before it"
    assert found["b", "second"] == "its time limit of 4 s"
    assert found["c", "(end of this part)"] == "ended with exit status 3: see log.txt"
    summary = (out / "summary.md").read_text(encoding="utf-8")
    assert summary in done.stdout
    assert "| wrong | 1 | 2 | **differs** |" in summary
    assert (
        "3 as expected, 1 recorded, 1 no meaning here, 1 differs, 3 error, 2 not reached" in summary
    )
    log = (out / "log.txt").read_text(encoding="utf-8")
    (child,) = (line.split()[-1] for line in log.splitlines() if line.startswith("b| child "))
    assert not is_running(int(child))  # a part's own processes end with it


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_run_of_expected_answers_is_green_and_its_table_can_be_printed_again(tool, tmp_path):
    good = """
        def run(part):
            with part.check("right", "1") as check:
                check.expect(True, f"planted: {part.planted}")
    """
    folder, out = tool(good=(60, good), other=(60, ANSWERS)), tmp_path / "out"
    done = run(folder, out, "--parts", "a", "--plant", "a")
    assert done.returncode == 0, done.stdout
    assert checks(out)[0]["found"] == "planted: True"
    again = run(folder, out, "--table", str(out / "results.jsonl"))
    assert (again.returncode, again.stdout) == (0, (out / "summary.md").read_text("utf-8"))


def test_a_killed_run_leaves_what_was_done(tool, tmp_path):
    folder, out = tool(hangs=(60, HANGS), later=(60, ANSWERS)), tmp_path / "out"
    words = [sys.executable, str(folder), "--device", "cpu", "--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    results = out / "results.jsonl"
    while not (results.is_file() and '"first"' in results.read_text() and is_child_told(out)):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kill_leftovers(out)
    with results.open("a") as file:
        file.write('{"kind": "check", "part": "a", "che')  # a line that was being written
    assert verdicts(out) == {
        ("a", "first"): "as expected",
        ("a", "second"): "not reached",
        ("b", "(all of this part)"): "not reached",
    }


def is_child_told(out):
    log = out / "log.txt"
    return log.is_file() and "child" in log.read_text()


def kill_leftovers(out):
    """SIGKILL of the run cannot reach its parts; this test ends them itself."""
    for line in (out / "log.txt").read_text().splitlines():
        if "child" in line:
            child = int(line.split()[-1])
            os.killpg(os.getpgid(child), signal.SIGKILL)


TAKES_TIME = """
    import time

    def run(part):
        began = time.monotonic()
        time.sleep(1.5)
        with part.check("times") as check:
            check.record("", began=began, ended=time.monotonic())
"""


def test_a_part_that_times_runs_alone_and_is_overtaken_while_it_waits(tool, tmp_path):
    folder, out = tool(a=(60, TAKES_TIME), b=(60, TAKES_TIME), c=(60, TAKES_TIME)), tmp_path / "out"
    parts = folder / "parts" / "__init__.py"
    parts.write_text(parts.read_text().replace("'part b', 60, 60", "'part b', 60, 60, True"))
    assert run(folder, out, "--jobs", "2").returncode == 0
    times = {check["part"]: check["figures"] for check in checks(out)}
    assert times["c"]["began"] < times["a"]["ended"]  # beside each other
    assert times["b"]["began"] > max(times["a"]["ended"], times["c"]["ended"])


def test_a_wrong_letter_is_a_usage_error(tmp_path):
    done = run(TOOL, tmp_path, "--parts", "axz")
    assert done.returncode == 2
    assert "--parts: no part is called x, z; valid: abcdefg" in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


def test_without_wheels_the_script_says_what_to_run_first(tmp_path):
    done = subprocess.run(
        ["bash", str(TOOL / "run.sh")],
        env={**os.environ, "WHEELS": str(tmp_path / "none"), "PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "run tools/gpu_check/prepare.sh first" in done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="the machine has Python 3.12: tomllib")
def test_a_checkout_is_found_like_an_installation(tmp_path):
    pyproject = TOOL.parents[1] / "pyproject.toml"
    subprocess.run(
        [sys.executable, str(TOOL / "dist_info.py"), str(pyproject), str(tmp_path)], check=True
    )
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    real = importlib.metadata.distribution("pytest-diffspeed")
    assert (found.name, found.version) == ("pytest-diffspeed", real.version)
    assert set(found.entry_points) == set(real.entry_points)

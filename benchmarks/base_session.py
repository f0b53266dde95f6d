"""What a session against a base costs: worker processes that it starts, and its wall time.

    python benchmarks/base_session.py --tests 10
    python benchmarks/base_session.py --tests 10 --before 2ea98bc~1

Runs a suite against the commit before it in a scratch repository, as a pull request's CI would.
``--before REV`` runs it with the package of that commit of this repository too, in turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from trials import measured_on

ROOT = Path(__file__).parents[1]
PIPELINE = '''
"""A pipeline with random weights."""
from pytest_diffspeed.pipelines import random_weights


def make():
    return random_weights.build("sdxl-tiny")


make.call_defaults = {"steps": 2}
'''
HEAD = """
import pytest

pytestmark = pytest.mark.diffspeed("fp32", pipeline="tiny_pipeline:make")
"""
TEST = """

@pytest.mark.max_slowdown(100, over="base")
@pytest.mark.no_graph_breaks(components=["denoiser"], max_breaks=9)
def test_{number}(optimized_pipeline): ...
"""
COUNTER = '''
"""Writes down each worker process that the session starts."""
import os, sys


def note(event, arguments):
    if event == "subprocess.Popen" and any("diffspeed-worker-" in str(w) for w in arguments[1]):
        with open(os.environ["WORKER_STARTS"], "a") as file:
            file.write("start\\n")


sys.addaudithook(note)
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=int, default=10)
    parser.add_argument("--runs", type=int, default=2, help="of each")
    parser.add_argument("--before", metavar="REV", help="of this repository, to compare with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        repository = scratch(Path(folder) / "repository", arguments.tests)
        with packages(Path(folder), arguments.before) as named:
            found: dict[str, list[tuple[int, float]]] = {name: [] for name in named}
            for _ in range(arguments.runs):
                for name, package in named.items():
                    found[name].append(session(repository, package))
    print(f"{arguments.tests} tests against a base, two gates each, runs of both in turns\n")
    print("| package | worker processes started | seconds of each session | median |")
    print("|---|---|---|---|")
    for name, runs in found.items():
        starts = " and ".join(str(one) for one in sorted({starts for starts, _ in runs}))
        seconds = [taken for _, taken in runs]
        each = ", ".join(f"{one:.1f}" for one in seconds)
        print(f"| {name} | {starts} | {each} | {statistics.median(seconds):.1f} s |")
    print(f"\n{measured_on()}; load {os.getloadavg()[0]:.1f}")


def scratch(repository: Path, tests: int) -> Path:
    """A repository whose second commit changes nothing that runs."""
    repository.mkdir()
    suite = HEAD + "".join(TEST.format(number=number) for number in range(tests))
    (repository / "tiny_pipeline.py").write_text(PIPELINE)
    (repository / "test_tiny.py").write_text(suite)
    (repository / "count_starts.py").write_text(COUNTER)
    (repository / ".gitignore").write_text(
        "__pycache__/\n.pytest_cache/\n.diffspeed/\nstarts.txt\n"
    )
    git = ["git", "-C", str(repository), "-c", "user.name=Bench", "-c", "user.email=b@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    for text in ("A base\n", "A pull request\n"):
        (repository / "README.md").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", text.strip()], check=True)
    return repository


@contextmanager
def packages(folder: Path, before: str | None):
    """The trees of the package to run with, by name."""
    now = {"this tree": ROOT}
    if before is None:
        yield now
        return
    tree = folder / "before"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), before], check=True)
    try:
        yield {f"{before}": tree, **now}
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def session(repository: Path, package: Path) -> tuple[int, float]:
    """The workers that it starts, and its seconds; ends the benchmark if a gate did not pass."""
    starts = repository / "starts.txt"
    starts.write_text("")
    words = ["--diffspeed", "--diffspeed-base=HEAD~1", "--diffspeed-device=cpu", "-q"]
    words += ["-p", "count_starts", "-p", "no:benchmark", "--diffspeed-budget=20"]
    path = os.pathsep.join((str(package), str(repository)))
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": path, "WORKER_STARTS": str(starts)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"the session with {package} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return len(starts.read_text().splitlines()), seconds


if __name__ == "__main__":
    main()
